"""A sound cut to windows: what a reader takes at once, and where in the sound it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bestiary.audio.spans import Span

Spans = Callable[[Iterator[Tensor]], Iterable[Span]]  # blocks of a sound → where somebody speaks, as soon as it is known
BRIDGED = 0.5  # seconds of silence between two spans


class Piece(NamedTuple):
    """A stretch of a window that is a stretch of the sound, in samples."""

    at: int  # where it begins in the window
    start: int  # where it begins in the sound
    length: int


class Cut(NamedTuple):
    """A window: one stretch of a sound, or several with silence left out between them."""

    samples: Tensor  # (samples,)
    pieces: tuple[Piece, ...]
    rate: int  # Hz
    quiet: float = 0.0  # seconds at both ends of each piece in which nobody speaks

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def place(self, start: float, end: float) -> tuple[float, float]:
        """Where in the sound something lies that is spoken in the window, in seconds.

        What reaches from one piece a little into the silence of another is of the first alone.
        """
        quiet = self.quiet * self.rate
        first = next((piece for piece in self.pieces if start * self.rate < piece.at + piece.length - quiet), self.pieces[-1])
        last = next((piece for piece in reversed(self.pieces) if end * self.rate > piece.at + quiet), self.pieces[0])
        if last.at < first.at:  # all in the silence between the two
            last = first
        return self._within(first, start), self._within(last, end)

    def after(self, seconds: float) -> Cut:
        """What is left of the window behind its first seconds."""
        read = round(seconds * self.rate)
        left = [
            Piece(max(0, piece.at - read), piece.start + max(0, read - piece.at), piece.length - max(0, read - piece.at))
            for piece in self.pieces
            if piece.at + piece.length > read
        ]
        return self._replace(samples=self.samples[read:], pieces=tuple(left))

    def _within(self, piece: Piece, seconds: float) -> float:
        offset = min(max(seconds * self.rate - piece.at, 0), piece.length)
        return (piece.start + offset) / self.rate


class Tape:
    """The blocks of a sound as they are read, of which what is still needed is kept."""

    def __init__(self, blocks: Iterable[Tensor]):
        self.blocks = iter(blocks)
        self.kept = torch.empty(0)
        self.start = 0  # sample of the sound that `kept` begins with

    def __iter__(self) -> Iterator[Tensor]:
        """The further blocks, one by one, as others read them."""
        for block in self.blocks:
            self.kept = torch.cat([self.kept, block])
            yield block

    def take(self, start: int, end: int) -> Tensor:
        """The samples from one place to another, fewer where the sound ends before."""
        while self.start + len(self.kept) < end and next(iter(self), None) is not None:
            pass
        return self.kept[start - self.start : end - self.start]

    def forget(self, before: int) -> None:
        """Keep only what lies behind a place."""
        self.kept = self.kept[before - self.start :]
        self.start = before


def cuts_of_speech(blocks: Iterable[Tensor], spans: Spans, *, rate: int, longest: float, quiet: float) -> Iterator[Cut]:
    """Windows of at most `longest` seconds that hold all that is spoken, as full as they become without cutting a span.

    A silence up to BRIDGED seconds stays in its window. Spans are no longer than a window. Memory does not grow with the sound.
    """
    tape, most = Tape(blocks), round(longest * rate)
    pieces: list[Piece] = []
    for span in spans(iter(tape)):
        start, end = round(span.start * rate), min(round(span.end * rate), round(span.start * rate) + most)
        bridged = _bridged(pieces, start, end, round(BRIDGED * rate))
        if bridged[-1].at + bridged[-1].length > most:
            yield _recorded(tape, pieces, rate, quiet)
            tape.forget(start)
            bridged = [Piece(0, start, end - start)]
        pieces = bridged
    if pieces:
        yield _recorded(tape, pieces, rate, quiet)


def _bridged(pieces: list[Piece], start: int, end: int, most: int) -> list[Piece]:
    """The pieces of a window and one more, which is one with the last where there is little silence between."""
    if not pieces:
        return [Piece(0, start, end - start)]
    *before, last = pieces
    if start - (last.start + last.length) <= most:
        return [*before, last._replace(length=end - last.start)]
    return [*pieces, Piece(last.at + last.length, start, end - start)]


def _recorded(tape: Tape, pieces: list[Piece], rate: int, quiet: float) -> Cut:
    samples = [tape.take(piece.start, piece.start + piece.length) for piece in pieces]
    return Cut(torch.cat(samples), tuple(pieces), rate, quiet)


def whole(samples: Tensor, rate: int, start: int = 0) -> Cut:
    """A window that is one stretch of the sound, from sample `start` on."""
    return Cut(samples, (Piece(0, start, len(samples)),), rate)
