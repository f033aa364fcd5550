"""One further token of each sequence, computed without Python between the operations.

A net that is small, or whose weights are few bits, spends as long on the way from one operation to the next as in them. So the
step is traced: recorded once as a program of operations, in which the position is an input, and run as that from then on.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bestiary.core.attention_kernels import Score, attention, sees
from bestiary.core.cache import Cache
from bestiary.core.context import Context, Projected, biased

PLAIN = 24  # steps before the trace, which takes longer than they do; what is short shall not wait for it
MOST = 16  # sequences that step together; with more, the operations take longer than the way between them

Tensors = tuple[Tensor, ...]


class Stepping(Context):
    """What `Continuing` is, for one token of each sequence and without a number in it that other positions would change."""

    layer = 0

    def __init__(self, positions: Tensor, keys: Tensors, values: Tensors, recalled: Sequence[Tensors]):
        super().__init__(positions[:, None], True)
        self.keys, self.values = keys, values  # by layer: (sequences, heads, capacity, head_width)
        self.recalled = recalled  # keys and values of the memory, by layer, and where it has a mask a third that holds it
        self.last = positions.max()  # a tensor, as what is a number in a trace stays as it is
        self._masks: dict[int | None, Tensor | None] = {}

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        if score.window not in self._masks:
            self._masks[score.window] = self._mask(query, score.window)
        keys, values = self._grown(self.keys[self.layer], key), self._grown(self.values[self.layer], value)
        return attention(query, keys, values, score, self._masks[score.window])

    def recall(self, project: object) -> Projected:
        keys, values, *_ = self.recalled
        return keys[self.layer], values[self.layer]

    def attend_memory(self, query: Tensor, memory: Projected, score: Score) -> Tensor:
        _, _, *masks = self.recalled
        return attention(query, *memory, score, masks[0][0][:, None, None, :] if masks else None)

    def _grown(self, slots: Tensor, new: Tensor) -> Tensor:
        """What any query may see, with the new among it: (sequences, slots, heads, head_width)."""
        if len(self.positions) == 1:
            slots.index_copy_(2, self.positions[0], new.transpose(1, 2))
        else:
            slots[torch.arange(slots.shape[0])[:, None], :, self.positions] = new
        return slots[:, :, : self.last + 1].transpose(1, 2)

    def _mask(self, x: Tensor, window: int | None) -> Tensor | None:
        slots = torch.arange(self.keys[0].shape[2])[: self.last + 1]
        everything = len(self.positions) == 1 and window is None
        mask = None if everything else sees(self.positions, slots, True, window)[:, None]  # type: ignore[index]
        if self.bias is None:
            return mask
        return biased(self.bias(self.positions[:, 0], slots).transpose(0, 1)[:, :, None], mask, x.dtype)


class StepNet(nn.Module):
    """The net as a function of tensors alone, which is what can be traced."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, positions: Tensor, keys: Tensors, values: Tensors, *recalled: Tensors) -> Tensor:
        net: Any = self.net
        return net.head(net.hidden_states(tokens, Stepping(positions, keys, values, recalled)))


class Step:
    """Logits after one further token of each sequence in a cache, as the net itself gives them."""

    def __init__(self, net: nn.Module):
        self._plain = StepNet(net)
        self._traced: dict[Hashable, Any] = {}  # for a single sequence, and for several; with a memory, masked or not, or without
        self._taken = Counter[Hashable]()
        self._lock = threading.Lock()

    def __call__(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        """(sequences, 1, vocabulary)"""
        inputs = torch.tensor(tokens)[:, None], torch.tensor(cache.lengths), *_held(cache)
        kind = len(tokens) == 1, len(inputs)
        cache.lengths = [length + 1 for length in cache.lengths]
        self._taken[kind] += 1
        if self._taken[kind] <= PLAIN:
            return self._plain(*inputs)
        return self._trace(kind, inputs)(*inputs)

    def _trace(self, kind: Hashable, inputs: tuple[Any, ...]) -> Any:
        with self._lock:
            if kind not in self._traced:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # shapes that are the same at every step may be numbers
                    self._traced[kind] = torch.jit.trace(self._plain, inputs, check_trace=False)
            return self._traced[kind]


def _held(cache: Cache) -> list[Tensors]:
    """By layer the keys and values of what was read, then those of a memory, if there is one, and its mask, if it has one."""
    held = [tuple(cache.keys.values()), tuple(cache.values.values())]
    if cache.memory is not None:
        keys, values = zip(*cache.recalled.values(), strict=True)
        held += [keys, values, *([(cache.memory.mask,)] if cache.memory.mask is not None else [])]
    return held
