"""One further token of each sequence, computed without Python between the operations.

A net that is small, or whose weights are few bits, spends as long on the way from one operation to the next as in them. So the
step is traced: recorded once as a program of operations, in which the position is an input, and run as that from then on.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bestiary.core.cache import Cache
from bestiary.core.context import Context, Score, attention, sees

PLAIN = 24  # steps before the trace, which takes longer than they do; what is short shall not wait for it
MOST = 16  # sequences that step together; with more, the operations take longer than the way between them


class Stepping(Context):
    """What `Continuing` is, for one token of each sequence and without a number in it that other positions would change."""

    layer = 0

    def __init__(self, positions: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]):
        super().__init__(positions[:, None], True)
        self.keys, self.values = keys, values  # by layer: (sequences, heads, capacity, head_width)
        self.last = positions.max()  # a tensor, as what is a number in a trace stays as it is
        self._masks: dict[int | None, Tensor | None] = {}

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        assert self.bias is None
        if score.window not in self._masks:
            self._masks[score.window] = self._mask(score.window)
        keys, values = self._grown(self.keys[self.layer], key), self._grown(self.values[self.layer], value)
        return attention(query, keys, values, score, self._masks[score.window])

    def _grown(self, slots: Tensor, new: Tensor) -> Tensor:
        """What any query may see, with the new among it: (sequences, slots, heads, head_width)."""
        if len(self.positions) == 1:
            slots.index_copy_(2, self.positions[0], new.transpose(1, 2))
        else:
            slots[torch.arange(slots.shape[0])[:, None], :, self.positions] = new
        return slots[:, :, : self.last + 1].transpose(1, 2)

    def _mask(self, window: int | None) -> Tensor | None:
        if len(self.positions) == 1 and window is None:
            return None
        slots = torch.arange(self.keys[0].shape[2])[: self.last + 1]
        return sees(self.positions, slots, True, window)[:, None]  # type: ignore[index]


class StepNet(nn.Module):
    """The net as a function of tensors alone, which is what can be traced."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, positions: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
        net: Any = self.net
        return net.head(net.hidden_states(tokens, Stepping(positions, keys, values)))


class Step:
    """Logits after one further token of each sequence in a cache, as the net itself gives them."""

    def __init__(self, net: nn.Module):
        self._plain = StepNet(net)
        self._traced: dict[bool, Any] = {}  # for a single sequence, and for several
        self._taken = {True: 0, False: 0}
        self._lock = threading.Lock()

    def __call__(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        """(sequences, 1, vocabulary)"""
        single = len(tokens) == 1
        keys, values = tuple(cache.keys.values()), tuple(cache.values.values())
        inputs = torch.tensor(tokens)[:, None], torch.tensor(cache.lengths), keys, values
        cache.lengths = [length + 1 for length in cache.lengths]
        self._taken[single] += 1
        if self._taken[single] <= PLAIN:
            return self._plain(*inputs)
        return self._trace(single, inputs)(*inputs)

    def _trace(self, single: bool, inputs: tuple[Any, ...]) -> Any:
        with self._lock:
            if single not in self._traced:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # shapes that are the same at every step may be numbers
                    self._traced[single] = torch.jit.trace(self._plain, inputs, check_trace=False)
            return self._traced[single]
