"""What attention looked at, for a person to see."""

from __future__ import annotations

import torch
from torch import Tensor

from bestiary.core.attention_kernels import Score
from bestiary.core.context import Dense


class Recording(Dense):
    """The context of a padded batch that keeps, for each attention that it computed, how much each row saw of each other.

    `probabilities` holds (batch, heads, queries, keys) for one attention after the other; what a query sees adds up to 1.

    >>> from bestiary.core.attention import AttentionSpec
    >>> context = Recording(torch.arange(5), causal=True, padding=None)
    >>> AttentionSpec(width=8, heads=2).build()(torch.randn(1, 5, 8), context).shape
    torch.Size([1, 5, 8])
    >>> context.probabilities[0].shape, context.probabilities[0][0, 0, 0].tolist()
    (torch.Size([1, 2, 5, 5]), [1.0, 0.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, positions: Tensor, causal: bool, padding: Tensor | None, **more: object):
        super().__init__(positions, causal, padding, **more)
        self.probabilities: list[Tensor] = []

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        # Kernels keep their probabilities to themselves; but of values that are 0 but for one 1 they give just these.
        batch, length, heads, _ = key.shape
        ones = torch.eye(length, dtype=value.dtype, device=value.device)[None, :, None].expand(batch, -1, heads, -1)
        self.probabilities.append(super().attend(query, key, ones, score).transpose(1, 2))
        return super().attend(query, key, value, score)
