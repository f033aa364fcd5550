"""Sounds of any length, read window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from torch import Tensor

from bestiary.audio.recognition.cuts import Cut, Tape, whole
from bestiary.audio.recognition.reader import Options, Reader, Reading, Window
from bestiary.audio.recognition.transcript import Segment
from bestiary.core.task import batched

LEAST = 0.5  # seconds that have to be left of a window for them to be read by themselves
FREE = 0.5  # temperature above which a text is no more taken as what the next one follows


class Hearing:
    """The windows of one sound as they are read: what the next has to know of those before."""

    def __init__(self, options: Options):
        self.options = options
        self.language = options.language
        self.previous: tuple[int, ...] = ()

    def window(self, samples: Tensor) -> Window:
        return Window(samples, self.language, self.previous)

    def take(self, reading: Reading, cut: Cut) -> list[Segment]:
        """The segments of a reading, where they lie in the sound."""
        self.language = reading.language
        if self.options.condition_on_previous and reading.segments:
            free = reading.segments[-1].temperature > FREE
            told = tuple(token for segment in reading.segments for token in segment.tokens)
            self.previous = () if free else self.previous + told
        return [segment.placed(cut.place) for segment in reading.segments]


def read_through(reader: Reader, cuts: Sequence[Cut], sounds: Sequence[Hearing], options: Options) -> list[list[Segment]]:
    """All segments of each of some windows, read together; `sounds` says which sound each is of.

    What a reading leaves of its window is read by itself.
    """
    segments: list[list[Segment]] = [[] for _ in cuts]
    left = list(enumerate(cuts))
    while left:
        readings = reader.read([sounds[number].window(cut.samples) for number, cut in left], options)
        rest = []
        for (number, cut), reading in zip(left, readings, strict=True):
            segments[number] += sounds[number].take(reading, cut)
            if reading.seconds < cut.seconds - LEAST:
                rest.append((number, cut.after(reading.seconds)))
        left = rest
    return segments


def read_cuts(reader: Reader, cuts: Iterable[Cut], sound: Hearing, size: int) -> Iterator[Segment]:
    """The segments of windows of one sound that do not hang on one another, `size` of them read at once.

    Where it is not known what is spoken, the first is read alone, as its language is that of the others.
    """
    source = iter(cuts)
    at_once = 1 if sound.options.condition_on_previous else size
    ahead = [list(islice(source, 1))] if reader.multilingual and sound.language is None else []
    for batch in chain(ahead, batched(source, at_once)):
        for segments in read_through(reader, batch, [sound] * len(batch), sound.options):
            yield from segments


def read_on(reader: Reader, blocks: Iterable[Tensor], sound: Hearing) -> Iterator[Segment]:
    """The segments of a sound in plain windows, each of which begins where the one before was read to."""
    tape, place = Tape(blocks), 0
    longest = round(reader.seconds * reader.rate)
    while len(samples := tape.take(place, place + longest)) > LEAST * reader.rate or (place == 0 and len(samples)):
        cut = whole(samples, reader.rate, place)
        (reading,) = reader.read([sound.window(samples)], sound.options)
        yield from sound.take(reading, cut)
        place += max(1, round(reading.seconds * reader.rate))
        tape.forget(place)
