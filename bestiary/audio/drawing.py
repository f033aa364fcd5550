"""What was found in a sound, drawn over its time.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind people tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor, log10

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bestiary.core.labels import Label

Colour = tuple[int, int, int]

WIDTH, HEIGHT = 960, 320  # pixels of a picture
LEFT, RIGHT, ABOVE, BELOW = 56, 16, 16, 32  # pixels around what is drawn, for the axes
LETTERS = 13  # pixels
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (160, 160, 160)
SKY, BLUE, VERMILION = (190, 224, 244), (0, 114, 178), (213, 94, 0)


class Chart:
    """A picture with time to the right, from 0 to so many seconds, and values upwards, from `low` to `high`."""

    def __init__(self, seconds: float, low: float, high: float):
        self.seconds, self.low, self.high = max(seconds, 1e-3), low, high
        self.picture = Image.new("RGB", (WIDTH, HEIGHT), WHITE)
        self.draw, self.font = ImageDraw.Draw(self.picture), ImageFont.load_default(LETTERS)

    def x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * share

    def shade(self, start: float, end: float, colour: Colour) -> None:
        """A band from one second to another, at least a pixel wide."""
        self.draw.rectangle((self.x(start), ABOVE, max(self.x(end), self.x(start) + 1), HEIGHT - BELOW), fill=colour)

    def curve(self, times: Sequence[float], values: Sequence[float], colour: Colour) -> None:
        points = [(self.x(time), self.y(value)) for time, value in zip(times, values, strict=True)]
        self.draw.line(points * (1 if len(points) > 1 else 2), fill=colour, width=2)

    def axes(self, marks: Iterable[tuple[float, str]]) -> Image.Image:
        """The picture with seconds below and these values at the left."""
        self.draw.rectangle((LEFT, ABOVE, WIDTH - RIGHT, HEIGHT - BELOW), outline=GREY)
        for value, name in marks:
            self.draw.line((LEFT - 4, self.y(value), LEFT, self.y(value)), fill=BLACK)
            self.draw.text((LEFT - 8, self.y(value)), name, BLACK, self.font, anchor="rm")
        step = round_step(self.seconds / 8)
        for second in np.arange(0, self.seconds + step / 2, step):
            if second <= self.seconds:
                self.draw.line((self.x(second), HEIGHT - BELOW, self.x(second), HEIGHT - BELOW + 4), fill=BLACK)
                self.draw.text((self.x(second), HEIGHT - BELOW + 8), f"{second:.4g} s", BLACK, self.font, anchor="mt")
        return self.picture


def round_step(least: float) -> float:
    """The next number of 1, 2 or 5 times a power of 10.

    >>> round_step(0.03), round_step(7)
    (0.05, 10.0)
    """
    power = 10.0 ** floor(log10(least))
    return next(float(f"{factor * power:.6g}") for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def draw_probabilities(
    probabilities: Sequence[float], spans: Iterable[tuple[float, float]], *, frame: float, threshold: float
) -> Image.Image:
    """Probabilities of frames of so many seconds over time, behind them spans (start, end) and the threshold.

    >>> draw_probabilities([0.1, 0.9, 0.8], [(0.03, 0.1)], frame=0.032, threshold=0.5).size
    (960, 320)
    """
    values = np.asarray(probabilities, dtype=float)
    chart = Chart(len(values) * frame, 0.0, 1.0)
    for start, end in spans:
        chart.shade(start, end, SKY)
    chart.draw.line((LEFT, chart.y(threshold), WIDTH - RIGHT, chart.y(threshold)), fill=GREY)
    if len(values):
        chart.curve(((np.arange(len(values)) + 0.5) * frame).tolist(), values.tolist(), BLUE)
    return chart.axes((value, f"{value:g}") for value in (0, 0.5, 1))


def draw_pitch(times: Sequence[float], hertz: Sequence[float], confidence: Sequence[float]) -> Image.Image:
    """Pitch over time on a scale of octaves, each piece of the curve as dark as the net is sure of it.

    >>> draw_pitch([0.0, 0.01, 0.02], [220.0, 221.0, 440.0], [0.9, 0.8, 0.1]).size
    (960, 320)
    """
    octaves, sure = np.log2(np.asarray(hertz, dtype=float)), np.asarray(confidence, dtype=float).clip(0, 1)
    low, high = floor(octaves.min() * 4) / 4, floor(octaves.max() * 4 + 1) / 4
    chart = Chart(float(times[-1]), low, high)
    for place in range(len(times) - 1):
        share = min(sure[place], sure[place + 1])
        red, green, blue = (round(own * share + ground * (1 - share)) for own, ground in zip(VERMILION, WHITE, strict=True))
        chart.curve(times[place : place + 2], octaves[place : place + 2].tolist(), (red, green, blue))
    return chart.axes((octave, f"{2**octave:.0f} Hz") for octave in np.linspace(low, high, 5))


def draw_scores(labels: Sequence[Label]) -> Image.Image:
    """Labels, each on a bar as long as its score.

    >>> draw_scores([Label("speech", 0.9), Label("music", 0.2)]).size
    (960, 64)
    """
    step, letters = 32, ImageFont.load_default(LETTERS + 3)
    picture = Image.new("RGB", (WIDTH, step * len(labels)), WHITE)
    draw = ImageDraw.Draw(picture)
    for place, label in enumerate(labels):
        top, middle = place * step, place * step + step // 2
        draw.rectangle((0, top + 2, round(label.score * (WIDTH - 1)), top + step - 3), fill=SKY)
        draw.text((8, middle), label.name, BLACK, letters, anchor="lm")
        draw.text((WIDTH - 8, middle), f"{label.score:.1%}", BLACK, letters, anchor="rm")
    return picture
