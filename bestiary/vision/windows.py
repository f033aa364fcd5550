"""Attention in windows of a map, which are shifted from block to block (Liu et al. 2021, arXiv:2103.14030, section 3.2).

Maps are (n, h, w, width) here; a row of `width` numbers is called a place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.attention import AttentionSpec
from bestiary.core.context import Dense


class WindowAttention(nn.Module):
    """Every place sees those of its window, `side` × `side` places: maps (n, h, w, width) to such."""

    def __init__(self, spec: AttentionSpec, side: int, shift: int):
        super().__init__()
        self.partition = Partition(side, shift)
        self.within = spec.build()
        self.bias = RelativeBias(side, spec.heads)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.partition(x)
        bias = windows.hide(self.bias(), x.shape[0])
        places = torch.arange(bias.shape[-1], device=x.device)
        context = Dense(places, causal=False, padding=None, bias=lambda queries, keys: bias)
        return windows.join(self.within(windows.cut(x), context))


class RelativeBias(nn.Module):
    """What is added to the scores in a window, a learned number for each distance (equation 4): (1, heads, area, area)."""

    def __init__(self, side: int, heads: int):
        super().__init__()
        self.side = side
        self.table = nn.Parameter(torch.empty((2 * side - 1) ** 2, heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table, std=0.02)

    def forward(self) -> Tensor:
        return F.embedding(distances(self.side, self.table.device), self.table).permute(2, 0, 1)[None]

    def for_inference(self) -> nn.Module:
        return FixedBias(self)


class FixedBias(nn.Module):
    """The values of a RelativeBias, which are the same in every call once its weights are."""

    values: Tensor

    def __init__(self, bias: RelativeBias):
        super().__init__()
        self.register_buffer("values", bias().detach().contiguous(), persistent=False)

    def forward(self) -> Tensor:
        return self.values


def distances(side: int, device: torch.device | None = None) -> Tensor:
    """Which row of the table of biases tells how far each place of a window lies from each other: (area, area).

    >>> distances(2)
    tensor([[4, 3, 1, 0],
            [5, 4, 2, 1],
            [7, 6, 4, 3],
            [8, 7, 5, 4]])
    """
    along = torch.arange(side, device=device)
    apart = along[:, None] - along + side - 1  # 0 … 2 · side - 2
    return (apart[:, None, :, None] * (2 * side - 1) + apart[None, :, None, :]).reshape(side**2, side**2)


class Windows(NamedTuple):
    """How maps of one size are cut into windows."""

    size: tuple[int, int]  # of the maps
    filled: tuple[int, int]  # the same, rounded up to whole windows
    order: Tensor  # (windows, area), which place of a filled map stands where
    back: Tensor  # (h · w), where each place of a map stands among all of the windows
    sees: Tensor | None  # (windows, 1, area, area), which places see each other; None: all those of a window

    def cut(self, x: Tensor) -> Tensor:
        """Maps (n, h, w, width), filled up with zeros, as windows (n · windows, area, width)."""
        x = filled(x, *self.filled).flatten(1, 2).index_select(1, self.order.flatten())
        return x.unflatten(1, self.order.shape).flatten(0, 1)

    def join(self, x: Tensor) -> Tensor:
        """Windows (n · windows, area, width) as maps (n, h, w, width)."""
        x = x.unflatten(0, (-1, len(self.order))).flatten(1, 2)  # (n, windows · area, width)
        return x.index_select(1, self.back).unflatten(1, self.size)

    def hide(self, bias: Tensor, count: int) -> Tensor:
        """A bias (1, heads, area, area) for the windows of so many maps, what they do not see out of reach."""
        if self.sees is None:
            return bias
        bias = bias.masked_fill(~self.sees, float("-inf"))  # (windows, heads, area, area)
        return bias.expand(count, *bias.shape).flatten(0, 1)  # (n · windows, heads, area, area)


def filled(x: Tensor, height: int, width: int) -> Tensor:
    """Maps (n, h, w, channels) with zeros below and to the right, up to that size."""
    below, right = height - x.shape[1], width - x.shape[2]
    return F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x


class Partition(nn.Module):
    """Cuts maps into windows of `side` × `side` places, shifted by so many places down and to the right.

    A map is shifted the other way instead, and what that moves out at one end comes in at the other: such windows hold places
    from both ends, which do not see each other. A side of a single window is not shifted.
    """

    def __init__(self, side: int, shift: int):
        super().__init__()
        self.side, self.shift = side, shift

    def for_inference(self) -> nn.Module:
        return RememberedPartition(self)

    def forward(self, x: Tensor) -> Windows:
        """The windows of maps of the size of x, (n, h, w, width)."""
        (height, width), side, device = x.shape[1:3], self.side, x.device
        sizes = [-(-size // side) * side for size in (height, width)]
        shifts = [self.shift if size > side else 0 for size in sizes]
        places = torch.arange(sizes[0] * sizes[1], device=device).view(sizes[0], sizes[1])
        order = self.cut(places.roll([-shift for shift in shifts], (0, 1)))
        back = order.flatten().argsort().view(sizes[0], sizes[1])[:height, :width].flatten()
        sees = None
        if any(shifts):
            ends = [torch.arange(size, device=device) >= size - shift for size, shift in zip(sizes, shifts, strict=True)]
            parts = self.cut(2 * ends[0][:, None] + ends[1])
            sees = (parts[:, :, None] == parts[:, None, :])[:, None]
        return Windows((height, width), (sizes[0], sizes[1]), order, back, sees)

    def cut(self, x: Tensor) -> Tensor:
        """One value for each place, (h, w), as windows (windows, area)."""
        side = self.side
        return x.unflatten(1, (-1, side)).unflatten(0, (-1, side)).transpose(1, 2).flatten(2).flatten(0, 1)


class RememberedPartition(nn.Module):
    """A Partition that works out the windows of a size once."""

    def __init__(self, partition: Partition):
        super().__init__()
        self.partition = partition
        self._known: dict[tuple[int, int, torch.device], Windows] = {}

    def forward(self, x: Tensor) -> Windows:
        key = (x.shape[1], x.shape[2], x.device)
        if key not in self._known:
            with torch.inference_mode(False):  # what is remembered serves calls outside that mode as well
                self._known[key] = self.partition(x)
        return self._known[key]
