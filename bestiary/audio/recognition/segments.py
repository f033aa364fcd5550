"""From tokens with times among them to segments, and to the words in these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from bestiary.audio.recognition.transcript import Word
from bestiary.audio.recognition.vocabulary import Piece, Vocabulary

USUAL = 0.7  # seconds of a word at most, for the length that is usual in a segment
LONGEST = 2  # times the usual length: what takes longer is a word and a pause


class Part(NamedTuple):
    """A segment as a run of tokens, in seconds from the beginning of its window."""

    start: float
    end: float
    first: int  # place of its first token among those of the window
    tokens: tuple[int, ...]  # with its times


def cut(tokens: Sequence[int], vocabulary: Vocabulary, step: float, seconds: float) -> tuple[list[Part], float]:
    """The segments of a window of so many seconds that have words, and how far it was read.

    Two times side by side end one segment and begin the next. Of a segment without end the window does not hold all, so that
    it is left to be read in the next window, unless it is the only one (Radford et al. 2022, section 4.5).
    """

    def time(token: int) -> float:
        return min((token - vocabulary.times) * step, seconds)

    pairs = [place for place in range(1, len(tokens)) if min(tokens[place - 1], tokens[place]) >= vocabulary.times]
    whole = len(tokens) > 1 and tokens[-2] < vocabulary.times <= tokens[-1]
    if pairs:
        ends = [*pairs, len(tokens)] if whole else pairs
        runs = [(first, tuple(tokens[first:end])) for first, end in zip([0, *ends], ends, strict=False)]
        parts = [Part(time(run[0]), time(run[-1]), first, run) for first, run in runs]
        read = seconds if whole else time(tokens[ends[-1] - 1])
    else:
        last = next((token for token in reversed(tokens) if token > vocabulary.times), None)
        parts, read = [Part(0.0, seconds if last is None else time(last), 0, tuple(tokens))], seconds
    return [part for part in parts if part.start < part.end and any(map(str.isalnum, vocabulary.decode(part.tokens)))], read


def settled(pieces: Sequence[Piece], beginnings: Sequence[float], probabilities: Sequence[float]) -> tuple[Word, ...]:
    """The words of a segment.

    `beginnings` are the seconds at which its tokens begin, and what follows them does. A pause counts as part of the token
    before it or after it; so the words at the ends of the segment, which pauses surround, are no longer than twice the usual.
    """
    words = [
        Word(
            beginnings[piece.first],
            beginnings[piece.end],
            piece.text,
            sum(probabilities[piece.first : piece.end]) / (piece.end - piece.first),
        )
        for piece in pieces
    ]
    lengths = [word.end - word.start for word in words if word.end > word.start]
    if lengths:
        longest = LONGEST * min(USUAL, median(lengths))
        words[0] = replace(words[0], start=max(words[0].start, words[0].end - longest))
        words[-1] = replace(words[-1], end=min(words[-1].end, words[-1].start + longest))
    return tuple(words)
