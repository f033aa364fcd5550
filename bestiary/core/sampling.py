"""How the next token is chosen from logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

from bestiary.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The likeliest token, unless `temperature` is above 0: then one drawn at random, after what is unlikely is left out.

    Raises InputError for a value out of its range.

    >>> Sampling(temperature=1.0, top_k=2).probabilities(torch.tensor([[1.0, 1.0, 0.0]]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """

    temperature: float = 0.0  # logits are divided by it; 0: the likeliest token
    top_k: int | None = None  # only so many tokens, the likeliest
    top_p: float | None = None  # only the likeliest that together reach this probability (arXiv:1904.09751)
    min_p: float | None = None  # only those with at least this share of the likeliest's probability (arXiv:2407.01082)
    repetition_penalty: float = 1.0  # divides positive logits of tokens that were there, multiplies negative (arXiv:1909.05858)
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id → what is added to its logit; -inf forbids it
    seed: int | None = None  # of the draws; the same gives the same text

    def __post_init__(self) -> None:
        for name, right, wanted in (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "1 or more"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0, up to 1"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0"),
        ):
            if not right:
                raise InputError(f"{name}={getattr(self, name)!r} is out of range\ngive a number {wanted}")

    def adjusted(self, logits: Tensor, histories: Sequence[Sequence[int]]) -> Tensor:
        """Logits (sequences, vocabulary) after bias and penalty; a history is all tokens of a sequence so far."""
        if self.logit_bias:
            tokens = torch.tensor(list(self.logit_bias), device=logits.device)
            biases = torch.tensor(list(self.logit_bias.values()), device=logits.device, dtype=logits.dtype)
            logits = logits.index_add(-1, tokens, biases.expand(len(logits), -1))
        if self.repetition_penalty != 1:
            logits = logits.clone()
            for row, history in zip(logits, histories, strict=True):
                seen = torch.tensor(sorted(set(history)), device=row.device)
                chosen = row[seen]
                row[seen] = torch.where(chosen > 0, chosen / self.repetition_penalty, chosen * self.repetition_penalty)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """What a token is drawn from: (…, vocabulary) → (…, vocabulary), fp32; all on one token at temperature 0."""
        if self.temperature == 0:
            likeliest = logits.argmax(-1, keepdim=True)
            return torch.zeros_like(logits, dtype=torch.float32).scatter_(-1, likeliest, 1.0)
        logits = logits.float() / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k).values[..., -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        if self.top_p is not None:
            logits = _nucleus(logits, self.top_p)
        probabilities = logits.softmax(-1)
        if self.min_p:
            least = self.min_p * probabilities.amax(-1, keepdim=True)
            probabilities = probabilities.where(probabilities >= least, 0.0)
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        return probabilities

    def dice(self, sequences: int) -> list[Random]:
        """A source of chance for each sequence, so that it is continued among others as it is alone."""
        return [Random(self.seed) for _ in range(sequences)]


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Leave out what comes after the likeliest tokens have reached `top_p` together."""
    ordered, order = logits.sort(descending=True, dim=-1)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # how likely what stands before a token is
    kept = ordered.masked_fill(before >= top_p, -math.inf)
    return torch.empty_like(logits).scatter_(-1, order, kept)


def draw(probabilities: Tensor, dice: Sequence[Random]) -> list[int]:
    """A token for each row of (rows, vocabulary), by one number of the row's dice."""
    totals = probabilities.cumsum(-1)
    points = torch.tensor([die.random() for die in dice], device=totals.device, dtype=totals.dtype)[:, None] * totals[:, -1:]
    tokens = torch.searchsorted(totals, points, right=True)
    return tokens.clamp_(max=totals.shape[-1] - 1).flatten().tolist()
