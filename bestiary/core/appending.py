"""A cache as values: what a decoder has read comes in, and comes out with what it read now, for a graph cannot keep it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bestiary.core.attention_kernels import Score, attention, sees
from bestiary.core.context import Context


class Appending(Context):
    """New tokens that see themselves and the past, to which their keys and values are appended.

    `mask` (batch, length) is True where a new token is, `past_mask` (batch, past) where one was; padding may stand anywhere.
    `past` are keys and values of each layer in turn, (batch, heads, past, head_width); a past of 0 begins a text. When the net
    has computed, `present_mask` and `present` are the past of what follows.

    >>> import torch
    >>> nothing = [torch.zeros(1, 2, 0, 8)] * 2
    >>> context = Appending(torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 0, dtype=torch.bool), nothing)
    >>> context.positions
    tensor([[0, 1, 2]])
    """

    layer = 0

    def __init__(self, mask: Tensor, past_mask: Tensor, past: Sequence[Tensor]):
        self.past = past
        self.present: list[Tensor] = []
        self.present_mask = torch.cat([past_mask, mask], dim=1)  # (batch, past + length)
        self.places = (self.present_mask.long().cumsum(1) - 1).clamp(min=0)  # positions of all, padding not counted
        super().__init__(self.places[:, past_mask.shape[1] :], True)
        self._masks: dict[int | None, Tensor] = {}

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        assert self.bias is None
        past_key, past_value = self.past[2 * self.layer : 2 * self.layer + 2]
        keys = torch.cat([past_key, key.transpose(1, 2)], dim=2)  # (batch, heads, past + length, head_width)
        values = torch.cat([past_value, value.transpose(1, 2)], dim=2)
        self.present += [keys, values]
        if score.window not in self._masks:
            self._masks[score.window] = self._mask(score.window)
        return attention(query, keys.transpose(1, 2), values.transpose(1, 2), score, self._masks[score.window])

    def _mask(self, window: int | None) -> Tensor:
        """Padding has the position of the token before it, and so sees what that sees."""
        seen = sees(self.positions, self.places, True, window)
        assert seen is not None
        return (seen & self.present_mask[:, None])[:, None]  # (batch, 1, length, past + length)
