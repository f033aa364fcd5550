"""Where a long sound and its text can be cut alike: between words that the net, left to itself, hears as the text has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from bestiary.audio.letters import Letters, Spelled

RUN = 4  # words in a row that have to be heard as they are written to be taken for the same


class Part(NamedTuple):
    """Frames of a sound and the words that are said in them, from the first up to the last, which is of the next part."""

    first_frame: int
    last_frame: int
    first_word: int
    last_word: int


class Cut(NamedTuple):
    """The frame and the word that a part can begin with."""

    frame: int
    word: int


class HeardWord(NamedTuple):
    """The tokens of a word that was heard, and its frames."""

    tokens: tuple[int, ...]
    start: int
    end: int


def parts(log_probabilities: Tensor, words: Sequence[Spelled], letters: Letters, longest: int) -> list[Part]:
    """A sound of (frames, tokens) and its words, cut so that parts have no more than `longest` frames where that can be."""
    last = Cut(len(log_probabilities), len(words))
    cuts = [] if last.frame <= longest else _cuts(list(_heard(log_probabilities, letters)), words)
    chosen = [Cut(0, 0), *_chosen(cuts, last, longest), last]
    return [Part(cut.frame, after.frame, cut.word, after.word) for cut, after in pairwise(chosen)]


def _heard(log_probabilities: Tensor, letters: Letters) -> Iterator[HeardWord]:
    """The words of the most probable path."""
    path, counts = log_probabilities.argmax(-1).unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    word: list[int] = []
    start = end = 0
    for token, first, last in zip(path.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
        if token == letters.delimiter and word:
            yield HeardWord(tuple(word), start, end)
            word = []
        elif token not in (letters.blank, letters.delimiter):
            start, end = start if word else first, last
            word.append(token)
    if word:
        yield HeardWord(tuple(word), start, end)


def _cuts(heard: Sequence[HeardWord], words: Sequence[Spelled]) -> list[Cut]:
    """Every gap between two words of a run that is heard as it is written."""
    runs = _runs([word.tokens for word in heard]), _runs([tuple(word.tokens) for word in words])
    blocks = SequenceMatcher(None, *runs, autojunk=False).get_matching_blocks()
    return [
        Cut((heard[block.a + place].end + heard[block.a + place + 1].start) // 2, block.b + place + 1)
        for block in blocks
        if block.size
        for place in range(block.size + RUN - 2)
    ]


def _runs(words: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], ...]]:
    """So many words in a row from each on: hardly any of them comes twice, as single words do."""
    return list(zip(*(words[place:] for place in range(RUN)), strict=False))


def _chosen(cuts: Iterable[Cut], last: Cut, longest: int) -> Iterator[Cut]:
    """As few as are needed, each as late as it can be."""
    start = Cut(0, 0)
    for cut, after in pairwise([*cuts, last]):
        if after.frame - start.frame > longest and cut.frame > start.frame and cut.word > start.word:
            start = cut
            yield cut
