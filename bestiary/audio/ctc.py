"""Connectionist temporal classification: from what a net says at every frame to letters, and to when each was said.

At every frame such a net gives one of its tokens, or a blank. A reading is what is left when neighbours that are equal count
once and blanks are dropped, and its probability the sum of those of all the paths that leave it (Graves et al. 2006).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from bestiary.errors import InputError

BEAMS = 16  # readings that are kept at every frame
LEAST = 1e-4  # a token less probable than this at a frame does not continue a reading there
MOST = 2**31 - 1  # frames times states of an alignment, which torchaudio counts so


class Found(NamedTuple):
    """A reading, and the logarithm of its probability."""

    tokens: list[int]
    log_probability: float


class Span(NamedTuple):
    """When a token was said, in frames, and the mean logarithm of its probability in them."""

    token: int
    start: int
    end: int
    log_probability: float


def greedy(log_probabilities: Tensor, blank: int) -> list[int]:
    """What the most probable path leaves of (frames, tokens).

    >>> greedy(torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]).log(), blank=0)
    [1, 1]
    """
    path = log_probabilities.argmax(-1).unique_consecutive()
    return path[path != blank].tolist()


class Prefix:
    """The beginning of a reading: a token behind a shorter beginning, None of either for the empty one."""

    __slots__ = ("_longer", "shorter", "token")

    def __init__(self, shorter: Prefix | None, token: int | None):
        self.shorter = shorter
        self.token = token
        self._longer: dict[int, Prefix] = {}

    def behind(self, token: int) -> Prefix:
        """The beginning that is longer by a token, the same one each time."""
        if token not in self._longer:
            self._longer[token] = Prefix(self, token)
        return self._longer[token]

    def tokens(self) -> list[int]:
        found, prefix = [], self
        while prefix.shorter is not None and prefix.token is not None:
            found.append(prefix.token)
            prefix = prefix.shorter
        return found[::-1]


Paths = tuple[float, float]  # probability of the paths to a reading that end in a blank, and of those that end in its last token


def beam_search(log_probabilities: Tensor, blank: int, *, beams: int = BEAMS, least: float = LEAST) -> list[Found]:
    """The most probable readings of (frames, tokens), at most `beams` and the best first, by prefix beam search.

    After every frame the `beams` most probable beginnings are kept, each with all the paths to it (Graves 2012, section 7.5;
    Hannun et al. 2014, arXiv:1408.2873, without its language model). Exact where nothing falls out of the beam.

    >>> found = beam_search(torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log(), blank=0)
    >>> [(tokens, round(math.exp(log_probability), 2)) for tokens, log_probability in found]
    [([1], 0.64), ([], 0.36)]
    """
    kept: dict[Prefix, Paths] = {Prefix(None, None): (1.0, 0.0)}
    log_scale = 0.0
    for frame in _frames(log_probabilities, blank, least):
        grown = _grown(kept, frame, blank)
        best = sorted(grown.items(), key=lambda item: -sum(item[1]))[:beams]
        scale = sum(best[0][1])
        log_scale += math.log(scale)
        kept = {prefix: (ends_blank / scale, ends_token / scale) for prefix, (ends_blank, ends_token) in best}
    return [Found(prefix.tokens(), log_scale + math.log(sum(paths))) for prefix, paths in kept.items() if sum(paths) > 0]


def _frames(log_probabilities: Tensor, blank: int, least: float) -> Iterator[dict[int, float]]:
    """The tokens that count at each frame, and how probable they are; the blank and the likeliest are always among them."""
    probabilities = log_probabilities.cpu().double().exp()
    counts = probabilities >= least
    counts[:, blank] = True
    counts[torch.arange(len(counts)), probabilities.argmax(-1)] = True
    for row, mask in zip(probabilities, counts, strict=True):
        places = mask.nonzero()[:, 0]
        yield dict(zip(places.tolist(), row[places].tolist(), strict=True))


def _grown(kept: dict[Prefix, Paths], frame: dict[int, float], blank: int) -> dict[Prefix, Paths]:
    """What the beginnings become with a further frame."""
    in_blank: dict[Prefix, float] = defaultdict(float)
    in_token: dict[Prefix, float] = defaultdict(float)
    for prefix, (ends_blank, ends_token) in kept.items():
        in_blank[prefix] += (ends_blank + ends_token) * frame[blank]
        for token, probability in frame.items():
            if token == prefix.token:  # the same token once more, and a new one only behind a blank
                in_token[prefix] += ends_token * probability
                in_token[prefix.behind(token)] += ends_blank * probability
            elif token != blank:
                in_token[prefix.behind(token)] += (ends_blank + ends_token) * probability
    return {prefix: (in_blank[prefix], in_token[prefix]) for prefix in {**in_blank, **in_token}}


def align(log_probabilities: Tensor, tokens: Sequence[int], blank: int) -> list[Span]:
    """When each of the tokens was said, by the most probable path of (frames, tokens) that leaves them.

    Raises InputError for more tokens than the frames have place for, and for more of both than can be aligned at once.

    >>> align(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.6, 0.4]]).log(), [1], blank=0)[0][:3]
    (1, 1, 3)
    """
    if not tokens:
        return []
    frames, needed = len(log_probabilities), places(tokens)
    if needed > frames:
        raise InputError(
            f"a text of {len(tokens)} letters is longer than the sound allows, which has {frames} frames\n"
            "give the text of this very sound, or all of the sound"
        )
    if frames * (2 * len(tokens) + 1) > MOST:
        raise InputError(
            f"{len(tokens)} letters in {frames} frames are too much to align at once\ngive the sound and its text in parts"
        )
    targets = torch.tensor([list(tokens)], dtype=torch.int32)
    path, scores = forced_align(log_probabilities[None].float().cpu().contiguous(), targets, blank=blank)
    return [Span(span.token, span.start, span.end, span.score) for span in merge_tokens(path[0], scores[0], blank)]


def places(tokens: Sequence[int]) -> int:
    """The least frames that tokens take: equal neighbours need a blank between them.

    >>> places([1, 1, 2])
    4
    """
    return len(tokens) + sum(token == following for token, following in pairwise(tokens))
