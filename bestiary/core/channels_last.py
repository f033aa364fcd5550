"""Maps and rows of channels: (n, channels, h, w), as convolutions have it, and (n, h, w, channels), for norms and linear layers.

Each is a view of the other, and of maps that lie channels-last in memory neither has to be copied.
"""

from __future__ import annotations

from torch import Tensor, nn


def as_rows(x: Tensor) -> Tensor:
    """(n, channels, h, w) → (n, h, w, channels)"""
    return x.permute(0, 2, 3, 1)


def as_maps(x: Tensor) -> Tensor:
    """(n, h, w, channels) → (n, channels, h, w)"""
    return x.permute(0, 3, 1, 2)


class AsRows(nn.Module):
    """`as_rows` as a step of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return as_rows(x)


class AsMaps(nn.Module):
    """`as_maps` as a step of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return as_maps(x)


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of maps: (n, channels, h, w) → the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        return as_maps(super().forward(as_rows(x)))
