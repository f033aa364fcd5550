"""Speculative decoding: a small net drafts tokens, the large one reads them all at once and keeps those it would have chosen.

What comes out is distributed exactly as without the draft (Leviathan et al. 2023, arXiv:2211.17192, section 2.3 and
appendix A.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bestiary.core.generate import Chosen, Decoder, Generation, Limits
from bestiary.core.sampling import Sampling, draw

AHEAD = 4  # tokens that the draft guesses at a time


class SpeculativeGeneration(Generation):
    """`Generation` whose steps hold up to `ahead` + 1 tokens of each sequence."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        limits: Limits,
        *,
        draft: Decoder,
        ahead: int = AHEAD,
    ):
        super().__init__(decoder, prompts, sampling, limits)
        self.draft, self.ahead = draft, ahead

    @torch.inference_mode()
    def step(self) -> list[Chosen]:
        sequences = [self.sequences[sequence] for sequence in self.growing]
        drafted, guesses = self._drafted(sequences)
        logits = self.decoder.logits(drafted, last=self.ahead + 1)  # (growing, ahead + 1, vocabulary)
        wanted = self._distributions(logits, drafted)
        chosen = []
        for row, sequence in enumerate(list(self.growing)):
            known = len(sequences[row])
            accepted = self._accepted(drafted[row][known:], guesses[row], wanted[row], sequence)
            self.decoder.cache.lengths[row] = known + len(accepted) - 1
            self.draft.cache.lengths[row] = min(self.draft.cache.lengths[row], known + len(accepted) - 1)
            for place, token in enumerate(accepted):
                choice = Chosen(sequence, token, logits[row, place])
                chosen.append(choice)
                self.grow(choice)
                if sequence not in self.growing:
                    break
        return chosen

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self.draft.cache.select(rows)

    def _drafted(self, sequences: Sequence[Sequence[int]]) -> tuple[list[list[int]], Tensor]:
        """The sequences with `ahead` guesses each, and what those were drawn from: (growing, ahead, vocabulary)."""
        drafted = [list(tokens) for tokens in sequences]
        dice = [self.dice[sequence] for sequence in self.growing]
        guesses = []
        for _ in range(self.ahead):
            logits = self.draft.logits(drafted)[:, -1]
            guesses.append(self.sampling.probabilities(self.guided(logits, drafted)))
            for tokens, token in zip(drafted, draw(guesses[-1], dice), strict=True):
                tokens.append(token)
        return drafted, torch.stack(guesses, dim=1)

    def _distributions(self, logits: Tensor, drafted: Sequence[Sequence[int]]) -> Tensor:
        """What the net itself would draw each token from, and the one after the last."""
        places = []
        for place in range(self.ahead + 1):
            histories = [tokens[: len(tokens) - self.ahead + place] for tokens in drafted]
            places.append(self.sampling.probabilities(self.guided(logits[:, place], histories)))
        return torch.stack(places, dim=1)

    def _accepted(self, drafted: Sequence[int], guesses: Tensor, wanted: Tensor, sequence: int) -> list[int]:
        """The guesses up to the first that is refused, and one token drawn from what the net wanted there."""
        die = self.dice[sequence]
        for place, token in enumerate(drafted):
            if die.random() * float(guesses[place, token]) >= float(wanted[place, token]):
                missed = (wanted[place] - guesses[place]).clamp(min=0)
                return [*drafted[:place], *draw(missed[None], [die])]
        return [*drafted, *draw(wanted[-1:], [die])]
