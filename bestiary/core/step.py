"""One further token of one sequence, computed without Python between the operations.

A net that is small, or whose weights are few bits, spends as long on the way from one operation to the next as in them. So the
step is traced: recorded once as a program of operations, in which the position is an input, and run as that from then on.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bestiary.core.cache import Cache
from bestiary.core.context import Context, Score, attention

PLAIN = 24  # steps before the trace, which takes longer than they do; what is short shall not wait for it


class Stepping(Context):
    """What `Continuing` is, for one token of one sequence and without a number in it that another position would change."""

    layer = 0

    def __init__(self, position: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]):
        super().__init__(position[None], True)  # (1, 1)
        self.position, self.keys, self.values = position, keys, values  # (1,), by layer (1, heads, capacity, head_width)

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def attend(self, query: Tensor, key: Tensor, value: Tensor, score: Score) -> Tensor:
        assert self.bias is None
        first = None if score.window is None else (self.position[0] - score.window).clamp(min=0)
        seen = []
        for slots, new in ((self.keys[self.layer], key), (self.values[self.layer], value)):
            slots.index_copy_(2, self.position, new.transpose(1, 2))
            seen.append(slots[:, :, first : self.position[0] + 1].transpose(1, 2))
        return attention(query, seen[0], seen[1], score)


class StepNet(nn.Module):
    """The net as a function of tensors alone, which is what can be traced."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, token: Tensor, position: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
        net: Any = self.net
        return net.head(net.hidden_states(token, Stepping(position, keys, values)))


class Step:
    """Logits after one further token of the sequence in a cache, (1, 1, vocabulary), as the net itself gives them."""

    def __init__(self, net: nn.Module):
        self._plain = StepNet(net)
        self._traced: Any = None
        self._taken = 0
        self._lock = threading.Lock()

    def __call__(self, token: int, cache: Cache) -> Tensor:
        keys, values = tuple(cache.keys.values()), tuple(cache.values.values())
        inputs = torch.tensor([[token]]), torch.tensor(cache.lengths), keys, values
        cache.lengths = [cache.lengths[0] + 1]
        self._taken += 1
        if self._taken <= PLAIN:
            return self._plain(*inputs)
        return self._trace(inputs)(*inputs)

    def _trace(self, inputs: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._traced is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # shapes that are the same at every step may be numbers
                    self._traced = torch.jit.trace(self._plain, inputs, check_trace=False)
            return self._traced
