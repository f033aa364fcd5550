"""From probabilities of speech to the spans of a sound in which somebody speaks, as Silero's package cuts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from bestiary.errors import InputError

HYSTERESIS, LEAST = 0.15, 0.01  # how much lower than it begins a span ends if nothing else is said, and how low at least
CUT = 0.098  # seconds of a pause that a span which grows too long may be cut at


class Span(NamedTuple):
    """From when to when, in seconds from the beginning of the sound."""

    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """What makes a span. Raises InputError for what makes no sense."""

    threshold: float = 0.5  # probability from which on a span begins
    release: float | None = None  # probability below which it may end; 0.15 less than the threshold if None
    shortest: float = 0.25  # seconds; spans that are no longer are left out
    pause: float = 0.1  # seconds of silence that end a span
    padding: float = 0.03  # seconds that are added on both sides, as far as there is silence to share
    longest: float = inf  # seconds; a longer span is cut at its longest pause, or where it comes to that

    def __post_init__(self) -> None:
        release = self.threshold if self.release is None else self.release
        if not (0 < self.threshold <= 1 and 0 <= release <= self.threshold):
            what = f"threshold={self.threshold}, release={self.release} are no two probabilities"
            raise InputError(f"{what}\nwanted: 0 <= release <= threshold <= 1")
        if not (min(self.shortest, self.pause, self.padding) >= 0 and self.longest > 2 * self.padding):
            raise InputError("shortest, pause and padding are seconds of 0 or more\nlongest, above twice the padding")

    @property
    def low(self) -> float:
        return max(self.threshold - HYSTERESIS, LEAST) if self.release is None else self.release


def find_spans(blocks: Iterable[tuple[int, Sequence[float]]], cutting: Cutting, *, frame: int, rate: int) -> Iterator[Span]:
    """The spans of a sound, each as soon as it is known where the next one begins.

    The sound comes in blocks: how many samples each has, at `rate` Hz, and the probability of each of its frames of so many
    samples.

    >>> list(find_spans([(8000, [0.9] * 10 + [0.0] * 6)], Cutting(), frame=512, rate=16000))
    [Span(start=0.0, end=0.35)]
    """
    finder = _Finder(cutting, frame, rate)
    padding, held = rate * cutting.padding, (0.0, 0.0)
    for number, (start, end) in enumerate(finder.follow(blocks)):
        share = min(padding, (start - held[1]) // 2) if number else padding
        if number:
            yield _seconds(held[0], held[1] + share, rate)
        held = max(0, start - share), end
    if held[1]:
        yield _seconds(held[0], min(finder.samples, held[1] + padding), rate)


def _seconds(start: float, end: float, rate: int) -> Span:
    return Span(int(start) / rate, int(end) / rate)


class _Finder:
    """What is known of a sound so far. Places are samples from its beginning."""

    def __init__(self, cutting: Cutting, frame: int, rate: int):
        self.cutting = cutting
        self.frame = frame
        self.shortest, self.pause, self.cut = rate * cutting.shortest, rate * cutting.pause, rate * CUT
        self.longest = rate * (cutting.longest - 2 * cutting.padding) - frame
        self.samples = 0
        self.place = 0  # of the frame
        self.start: int | None = None  # of the span that has begun
        self.quiet: int | None = None  # since when nothing is heard in it
        self.pauses: list[tuple[int, int]] = []  # places and lengths of those in it

    def follow(self, blocks: Iterable[tuple[int, Sequence[float]]]) -> Iterator[tuple[int, int]]:
        """Start and end of each span, before padding."""
        for samples, probabilities in blocks:
            self.samples += samples
            for probability in probabilities:
                yield from self._take(probability)
                self.place += self.frame
        if self.start is not None and self.samples - self.start > self.shortest:
            yield self.start, self.samples

    def _take(self, probability: float) -> Iterator[tuple[int, int]]:
        if probability >= self.cutting.threshold:
            self._hear()
        if self.start is not None and self.place - self.start > self.longest:
            yield self._cut(self.start)
            if self.start is None:
                return
        if self.start is not None and probability < self.cutting.low:
            self.quiet = self.place if self.quiet is None else self.quiet
            if self.place - self.quiet >= self.pause:
                start, end = self.start, self.quiet
                self._begin(None)
                if end - start > self.shortest:
                    yield start, end

    def _hear(self) -> None:
        if self.quiet is not None:
            if self.place - self.quiet > self.cut:
                self.pauses.append((self.quiet, self.place - self.quiet))
            self.quiet = None
        if self.start is None:
            self.start = self.place

    def _cut(self, start: int) -> tuple[int, int]:
        """The first part of a span that has become too long; the rest of it begins behind the pause."""
        if not self.pauses:
            self._begin(None)
            return start, self.place
        end, length = max(self.pauses, key=lambda pause: pause[1])
        self._begin(end + length)
        return start, end

    def _begin(self, start: int | None) -> None:
        self.start, self.quiet, self.pauses = start, None, []
