"""Beam search: the likeliest few continuations grow side by side, and the best of those that have ended is taken.

Scores and the moment to stop are those of transformers' `generate(num_beams=…)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bestiary.core.generate import Decoder, Limits
from bestiary.core.sampling import Sampling
from bestiary.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Beams:
    """How wide to search, and for what. Raises InputError for a value out of its range."""

    beams: int  # continuations that grow side by side
    length_penalty: float = 1.0  # scores are log-probabilities over length ** length_penalty: the higher, the longer the texts
    # Stop at as many ended continuations as beams; False: when none that grows looks better; "never": when none can be better.
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        if isinstance(self.beams, bool) or not isinstance(self.beams, int) or self.beams < 1:
            raise InputError(f"beams={self.beams!r} is not a number of continuations\ngive 1 or more")
        if self.early_stopping not in (True, False, "never"):
            raise InputError(f'early_stopping={self.early_stopping!r} is not known\nit is True, False or "never"')


class Hypothesis(NamedTuple):
    """A continuation of a prompt."""

    tokens: tuple[int, ...]  # with the one that ends it, if one does
    log_probability: float  # of all of them
    score: float = 0.0  # the same, made comparable between lengths, once it has ended


@torch.inference_mode()
def beam_search(
    decoder: Decoder, prompts: Sequence[Sequence[int]], beams: Beams, sampling: Sampling, limits: Limits
) -> list[list[Hypothesis]]:
    """The best continuations of each prompt that were found, the best first, at most as many as beams.

    Of the sampling only what is not left to chance takes part: bias and penalty, on log-probabilities.
    """
    searches = [Search(prompt, beams, limits) for prompt in prompts]
    open_searches = searches
    while open_searches:
        beginnings = [growing.tokens for search in open_searches for growing in search.growing]
        sequences = [[*search.prompt, *growing.tokens] for search in open_searches for growing in search.growing]
        log_probabilities = decoder.logits(sequences)[:, -1].float().log_softmax(-1)
        log_probabilities = limits.guided(sampling.adjusted(log_probabilities, sequences), beginnings)
        kept, first = [], 0
        for search, rows in zip(open_searches, log_probabilities.split([len(s.growing) for s in open_searches]), strict=True):
            parents = search.advance(rows)
            if not search.done:
                kept += [first + parent for parent in parents]
            first += len(rows)
        open_searches = [search for search in open_searches if not search.done]
        if open_searches:
            decoder.cache.select(kept)
    return [search.ended for search in searches]


class Search:
    """The continuations of one prompt: those that grow and those that have ended, the best of each first."""

    def __init__(self, prompt: Sequence[int], beams: Beams, limits: Limits):
        self.prompt, self.beams, self.limits = prompt, beams, limits
        self.growing = [Hypothesis((), 0.0)]
        self.ended: list[Hypothesis] = []

    def advance(self, log_probabilities: Tensor) -> list[int]:
        """Grow all by a token, whose log-probabilities are (growing, vocabulary); says which each of those now growing was."""
        growing: list[Hypothesis] = []
        parents: list[int] = []
        for rank, (parent, token, total) in enumerate(self._candidates(log_probabilities)):
            tokens = (*self.growing[parent].tokens, token)
            if self.limits.ends(tokens) or self.limits.full(tokens, len(self.prompt)):
                if rank < self.beams.beams:  # what lies behind is there only to keep the beams filled
                    self.ended.append(Hypothesis(tokens, total, self._score(total, len(tokens))))
            elif len(growing) < self.beams.beams:
                growing.append(Hypothesis(tokens, total))
                parents.append(parent)
        self.growing = growing
        self.ended = sorted(self.ended, key=lambda hypothesis: -hypothesis.score)[: self.beams.beams]
        return parents

    @property
    def done(self) -> bool:
        """Whether to look no further."""
        if not self.growing:
            return True
        if len(self.ended) < self.beams.beams:
            return False
        if self.beams.early_stopping is True:
            return True
        best = self.growing[0]
        patient = self.beams.early_stopping == "never" and self.beams.length_penalty > 0
        length = self.limits.max_new_tokens if patient else len(best.tokens)
        return self._score(best.log_probability, length) <= self.ended[-1].score

    def _candidates(self, log_probabilities: Tensor) -> list[tuple[int, int, float]]:
        """The likeliest next steps, enough to keep the beams filled: which grows, by which token, with what log-probability."""
        totals = log_probabilities + log_probabilities.new_tensor([[growing.log_probability] for growing in self.growing])
        count = self.beams.beams * max(2, 1 + len(self.limits.end_tokens))
        best = totals.flatten().topk(min(count, int(totals.isfinite().sum())))
        parents, tokens = best.indices // totals.shape[1], best.indices % totals.shape[1]
        return list(zip(parents.tolist(), tokens.tolist(), best.values.tolist(), strict=True))

    def _score(self, log_probability: float, length: int) -> float:
        return log_probability / length**self.beams.length_penalty
