"""What attention knows beyond the hidden states: where each row stands, and which other rows it sees.

A net takes a padding mask, ragged lengths or a prepared context, and hands the context that `look` makes of it to its blocks.
Everything but attention works on the last dimension alone and does not ask; so one net computes padded batches, packed rows
and steps with a cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from bestiary.core.attention_kernels import Score, attention, sees
from bestiary.core.packing import Ragged, first_rows, mean_rows
from bestiary.core.rotary import RotarySpec, Rotation

Bias = Callable[[Tensor, Tensor], Tensor]  # positions of queries and of keys → what is added to scores: (heads, queries, keys)


class Memory(NamedTuple):
    """What cross-attention reads: the hidden states of an encoder."""

    hidden_states: Tensor  # (batch, length, width)
    mask: Tensor | None = None  # (batch, length), True where a token is, or what is added to scores


Projected = tuple[Tensor, Tensor]  # keys and values of a memory


class Context(ABC):
    """Which rows belong together, where each stands in its sequence, and what was computed before."""

    def __init__(self, positions: Tensor, causal: bool, bias: Bias | None = None, memory: Memory | None = None):
        self.positions = positions  # of each row in its own sequence: (length,), (batch, length) or (rows,)
        self.causal = causal
        self.bias = bias
        self.memory = memory
        self._rotations: dict[RotarySpec, Rotation] = {}

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        """Attention of each row to those it sees; (..., rows, heads, head_width), with fewer heads of keys where grouped."""

    def layers(self, count: int) -> Iterable[Context]:
        """The context for each block of a stack."""
        return repeat(self, count)

    def rotation(self, spec: RotarySpec, dtype: torch.dtype) -> Rotation:
        """Cosine and sine of the rows' angles, computed once for all layers."""
        if spec not in self._rotations:
            self._rotations[spec] = spec.rotation(self.positions, dtype)
        return self._rotations[spec]

    def first(self, x: Tensor) -> Tensor:
        """The first row of each sequence: (..., rows, width) → (sequences, width)."""
        return x[:, 0]

    def mean(self, x: Tensor) -> Tensor:
        """The mean of the rows of each sequence: (..., rows, width) → (sequences, width)."""
        return x.mean(1)

    def recall(self, project: Callable[[Tensor], Projected]) -> Projected:
        """Keys and values of the memory."""
        assert self.memory is not None, "cross-attention without a memory"
        return project(self.memory.hidden_states)

    def attend_memory(self, query: Tensor, memory: Projected, score: Score) -> Tensor:
        """Cross-attention: every row of (batch, length, heads, head_width) sees its whole memory."""
        mask = None if self.memory is None or self.memory.mask is None else self.memory.mask[:, None, None, :]
        return attention(query, *memory, score, mask)


class Dense(Context):
    """A padded batch: `padding` is (batch, length), True where a token is, or None where there is no padding."""

    def __init__(self, positions: Tensor, causal: bool, padding: Tensor | None, **more: object):
        super().__init__(positions, causal, **more)  # type: ignore[arg-type]
        self.padding = padding
        self._masks: dict[int | None, Tensor | None] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        if self.causal and self.padding is None and score.window is None and self.bias is None:
            return attention(query, key, value, score, causal=True)
        if score.window not in self._masks:
            self._masks[score.window] = self._mask(query, score.window)
        return attention(query, key, value, score, self._masks[score.window])

    def mean(self, x: Tensor) -> Tensor:
        if self.padding is None:
            return super().mean(x)
        kept = self.padding[:, :, None].to(x.dtype)
        return (x * kept).sum(1) / kept.sum(1)

    def _mask(self, x: Tensor, window: int | None) -> Tensor | None:
        places = torch.arange(x.shape[-3], device=x.device)
        mask = sees(places, places, self.causal, window)
        if self.padding is not None:
            mask = self.padding[:, None, None, :] if mask is None else self.padding[:, None, None, :] & mask
            if self.causal or window is not None:
                mask = mask | (places[:, None] == places)  # a row that sees nothing would be no number
        return mask if self.bias is None else biased(self.bias(places, places), mask, x.dtype)


class Packed(Context):
    """Packed rows: sequences laid end to end, none of which sees another."""

    def __init__(self, positions: Tensor, causal: bool, ragged: Ragged, **more: object):
        super().__init__(positions, causal, **more)  # type: ignore[arg-type]
        self.ragged = ragged
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        """One dense batch for every run of sequences of equal length."""
        attended = []
        for run in self.ragged.runs():
            mask = self._mask(query, run.length, score.window)
            causal = self.causal and mask is None
            attended.append(attention(run.of(query), run.of(key), run.of(value), score, mask, causal=causal))
        return torch.cat([batch.flatten(0, 1) for batch in attended])

    def first(self, x: Tensor) -> Tensor:
        return first_rows(x, self.ragged)

    def mean(self, x: Tensor) -> Tensor:
        return mean_rows(x, self.ragged)

    def _mask(self, x: Tensor, length: int, window: int | None) -> Tensor | None:
        if window is not None and window >= length - 1:
            window = None
        if (length, window) not in self._masks:
            places = torch.arange(length, device=x.device)
            needed = window is not None or self.bias is not None
            mask = sees(places, places, self.causal, window) if needed else None
            self._masks[length, window] = mask if self.bias is None else biased(self.bias(places, places), mask, x.dtype)
        return self._masks[length, window]


Mask = Tensor | Ragged | Context  # (batch, length) of bool, True where a token is; lengths of packed rows; or all prepared


def look(
    mask: Mask | None,
    tokens: Tensor,
    positions: Tensor | None = None,
    *,
    causal: bool,
    bias: Bias | None = None,
    memory: Memory | None = None,
) -> Context:
    """The context of rows of `tokens`, (batch, length) or (rows,). Positions count from 0 in each sequence if not given."""
    if isinstance(mask, Context):
        mask.bias = bias
        return mask
    if isinstance(mask, Ragged):
        positions = mask.positions(tokens.device) if positions is None else positions
        return Packed(positions, causal, mask, bias=bias, memory=memory)
    positions = torch.arange(tokens.shape[-1], device=tokens.device) if positions is None else positions
    return Dense(positions, causal, mask, bias=bias, memory=memory)


def biased(bias: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A bias as a mask to add, with what the bool mask hides out of reach."""
    bias = bias.to(dtype)
    return bias if mask is None else bias.masked_fill(~mask, float("-inf"))
