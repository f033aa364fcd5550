"""Keys and values of what a decoder has read, so that each new token is computed alone.

A slot IS a position: the token at position p of a sequence lies in its slot p, and a query sees the slots up to its own
position. So sequences of different length need no padding: what lies beyond a sequence's end is overwritten before it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bestiary.core.attention_kernels import Score, attention, sees
from bestiary.core.context import Context, Memory, Packed, Projected, biased
from bestiary.core.packing import Ragged


class Cache:
    """Room for `sequences` sequences of up to `capacity` tokens each, allocated at the first write and never again.

    `lengths` says how many tokens of each are in it. `memory` is what cross-attention reads; its keys and values are
    computed once and kept.

    >>> cache = Cache(sequences=2, capacity=8)
    >>> context = cache.filling(Ragged((5, 3)), torch.device("cpu"))     # for a forward over 8 packed rows
    >>> context = cache.continuing(1, torch.device("cpu"))               # then for one over (2, 1) tokens, and so on
    >>> cache.lengths
    [6, 4]
    """

    def __init__(self, *, sequences: int, capacity: int, memory: Memory | None = None):
        self.lengths = [0] * sequences
        self.capacity = capacity
        self.memory = memory
        self.read = list(range(sequences))  # which part of the memory each sequence reads
        self.shared = True  # whether others may hold the memory, and what is recalled of it
        self.keys: dict[int, Tensor] = {}  # by layer: (sequences, heads, capacity, head_width)
        self.values: dict[int, Tensor] = {}
        self.recalled: dict[int, Projected] = {}  # by layer: keys and values of the memory

    def filling(self, ragged: Ragged, device: torch.device) -> Filling:
        """The context to read the beginning of every sequence, packed end to end, into the empty cache."""
        assert not any(self.lengths) and max(ragged.lengths) <= self.capacity
        self.lengths = list(ragged.lengths)
        return Filling(self, ragged, device)

    def continuing(self, count: int, device: torch.device) -> Continuing:
        """The context to read `count` further tokens of every sequence, (sequences, count)."""
        assert max(self.lengths) + count <= self.capacity
        starts = self.lengths
        self.lengths = [start + count for start in starts]
        return Continuing(self, starts, count, device)

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget all but the first tokens of each sequence."""
        self.lengths = list(lengths)

    def select(self, sequences: Sequence[int]) -> None:
        """Go on with these sequences; any may be there several times, or not at all."""
        if list(sequences) == list(range(len(self.lengths))):
            return
        rows, filled = list(sequences), max(self.lengths)
        self.lengths = [self.lengths[row] for row in rows]
        for kept in (self.keys, self.values):
            for layer, tensor in kept.items():
                if len(rows) == len(tensor):
                    tensor[:, :, :filled] = tensor[rows, :, :filled]
                else:
                    kept[layer] = _picked(tensor, rows)
        read, self.read = self.read, [self.read[row] for row in rows]
        if self.memory is not None and self.read != read:  # sequences that read the same may change places
            pick, self.shared = (Tensor.__getitem__ if self.shared else _picked), False
            self.recalled = {layer: (pick(k, rows), pick(v, rows)) for layer, (k, v) in self.recalled.items()}
            self.memory = Memory(*(None if part is None else pick(part, rows) for part in self.memory))  # type: ignore[arg-type]

    def reserve(self, capacity: int) -> None:
        """Make room for sequences of this length, if there is less, keeping what is there."""
        if capacity <= self.capacity:
            return
        for kept in (self.keys, self.values):
            for layer, tensor in kept.items():
                kept[layer] = tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[3])
                kept[layer][:, :, : self.capacity] = tensor
        self.capacity = capacity

    def room(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The slots of a layer, to write into; `key` and `value`, (..., heads, head_width), say what for."""
        if layer not in self.keys:
            for kept, like in ((self.keys, key), (self.values, value)):
                # Zeros, as a slot that nobody sees still takes part, weighed by zero.
                kept[layer] = like.new_zeros(len(self.lengths), like.shape[-2], self.capacity, like.shape[-1])
        return self.keys[layer], self.values[layer]


def _picked(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Some rows of a tensor that nobody else holds: moved up in it where they are in order, so that no more memory is taken."""
    if list(rows) != sorted(set(rows)):
        return tensor[rows]
    with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
        for place, row in enumerate(rows):
            if place != row:
                tensor[place] = tensor[row]
    return tensor[: len(rows)]


def by_heads(x: Tensor) -> Tensor:
    """The same (sequences, length, heads, head_width), but head by head in memory, as a single query reads it fastest."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


class Filling(Packed):
    """Packed rows that are also written to a cache."""

    layer = 0

    def __init__(self, cache: Cache, ragged: Ragged, device: torch.device):
        super().__init__(ragged.positions(device), True, ragged, memory=cache.memory)
        self.cache = cache

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        keys, values = self.cache.room(self.layer, key, value)
        sequence = 0
        for run in self.ragged.runs():
            slots = slice(sequence, sequence + run.sequences), slice(None), slice(0, run.length)
            keys[slots] = run.of(key).transpose(1, 2)
            values[slots] = run.of(value).transpose(1, 2)
            sequence += run.sequences
        return super().attend(query, key, value, score)


class Continuing(Context):
    """New tokens, (sequences, count), that see themselves and what the cache holds."""

    layer = 0

    def __init__(self, cache: Cache, starts: Sequence[int], count: int, device: torch.device):
        self.cache, self.starts, self.count = cache, starts, count
        self.even = len(set(starts)) == 1  # whether all sequences are of one length
        self.seen = max(starts) + count  # slots that any query may see
        first = torch.tensor(starts[:1] if self.even else starts, device=device)
        super().__init__(first[:, None] + torch.arange(count, device=device), True, memory=cache.memory)
        self._masks: dict[int | None, Tensor | None] = {}

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        keys, values = self.cache.room(self.layer, key, value)
        self._write(keys, key)
        self._write(values, value)
        if self.seen == self.count and score.window is None and self.bias is None:  # nothing was in the cache
            return attention(query, key, value, score, causal=True)
        if score.window not in self._masks:
            self._masks[score.window] = self._mask(query, score.window)
        keys, values = (slots[:, :, : self.seen].transpose(1, 2) for slots in (keys, values))
        return attention(query, keys, values, score, self._masks[score.window])

    def recall(self, project: Callable[[Tensor], Projected]) -> Projected:
        recalled = self.cache.recalled
        if self.layer not in recalled:
            keys, values = super().recall(project)
            recalled[self.layer] = by_heads(keys), by_heads(values)
        return recalled[self.layer]

    def _write(self, slots: Tensor, new: Tensor) -> None:
        if self.even:
            slots[:, :, self.starts[0] : self.seen] = new.transpose(1, 2)
        else:
            slots[torch.arange(len(slots), device=slots.device)[:, None], :, self.positions] = new

    def _mask(self, x: Tensor, window: int | None) -> Tensor | None:
        slots = torch.arange(self.seen, device=x.device)
        everything = self.even and self.count == 1 and (window is None or window >= self.seen - 1)
        mask = None if everything else sees(self.positions, slots, True, window)[:, None]  # type: ignore[index]
        if self.bias is None:
            return mask
        biases = torch.stack([self.bias(positions, slots) for positions in self.positions])  # (1 or sequences, heads, …)
        return biased(biases, mask, x.dtype)
