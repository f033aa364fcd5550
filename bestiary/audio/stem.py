"""Convolutions over samples and over frames, as wav2vec 2.0 has them before its blocks (arXiv:2006.11477, section 2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.layers import ACTIVATIONS, in_place
from bestiary.errors import LayoutError

EPS = 1e-5  # of the norms between the convolutions


@dataclass(frozen=True, kw_only=True)
class StemSpec:
    """A tuple has a number for every convolution, the first one on the samples."""

    widths: tuple[int, ...]  # channels that come out
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    bias: bool
    norm: Literal["group", "layer"]  # a key of NORMS
    activation: str  # a name in ACTIVATIONS

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise LayoutError(f"there is no activation {self.activation!r}\nit is one of {', '.join(ACTIVATIONS)}")


class TimeNorm(nn.Module):
    """Each channel of a sound to a mean of 0 and a variance of 1 over its own time, then scaled and shifted.

    That is a group norm (Wu & He 2018, arXiv:1803.08494) with a group for every channel; (batch, channels, time) →
    the same shape. What lies behind the `lengths` (batch,) is padding, which counts for nothing.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return F.group_norm(x, x.shape[1], self.weight, self.bias, EPS)
        precise = x.float()
        kept = (torch.arange(x.shape[2], device=x.device) < lengths[:, None]).to(precise.dtype)[:, :, None]  # (batch, time, 1)
        count = lengths[:, None, None]
        precise = precise - precise @ kept / count  # sums as products: no tensor as large as x has to be made for them
        variance = precise.square() @ kept / count  # (batch, channels, 1)
        scale = (variance + EPS).rsqrt() * self.weight[:, None]
        return torch.addcmul(self.bias[:, None], precise, scale).to(x.dtype)


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every moment: (batch, channels, time) → the same shape."""

    def __init__(self, channels: int):
        super().__init__(channels, EPS)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:  # type: ignore[override]
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class NoNorm(nn.Module):
    """What it is given: (batch, channels, time)."""

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return x


# Of the first convolution, and of each further one.
NORMS: Mapping[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]] = {
    "group": (TimeNorm, lambda channels: NoNorm()),
    "layer": (ChannelNorm, ChannelNorm),
}


class Layer(nn.Module):
    """Convolution, norm, activation: (batch, inputs, time) → (batch, width, time'), and the lengths of the sounds in that."""

    def __init__(self, spec: StemSpec, place: int):
        super().__init__()
        inputs = spec.widths[place - 1] if place else 1
        width, kernel, stride = spec.widths[place], spec.kernels[place], spec.strides[place]
        self.convolution = nn.Conv1d(inputs, width, kernel, stride, bias=spec.bias)
        self.norm = NORMS[spec.norm][min(place, 1)](width)
        self.activation = ACTIVATIONS[spec.activation]()

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        (kernel,), (stride,) = self.convolution.kernel_size, self.convolution.stride
        if lengths is not None:
            lengths = (lengths - kernel) // stride + 1
        return self.activation(self.norm(self.convolution(x), lengths)), lengths

    def for_inference(self) -> nn.Module:
        """The same with the activation in place."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "activation": in_place(self.activation)}
        return twin


class Stem(nn.Module):
    """Samples (batch, n), of sounds with these lengths, to frames (batch, frames, channels)."""

    def __init__(self, spec: StemSpec):
        super().__init__()
        self.layers = nn.ModuleList(Layer(spec, place) for place in range(len(spec.widths)))

    def forward(self, samples: Tensor, lengths: Tensor | None) -> Tensor:
        x = samples[:, None]  # (batch, 1, n)
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x.transpose(1, 2)


class PositionalConvolution(nn.Module):
    """Where a frame stands, from the frames around it: (batch, frames, width) → the same shape, to be added.

    The weight of the convolution is a direction for each place in its kernel, scaled to a learned length (weight norm,
    Salimans & Kingma 2016, arXiv:1602.07868); for inference it is multiplied out.
    """

    def __init__(self, width: int, kernel: int, groups: int, activation: str):
        super().__init__()
        if groups < 1 or width % groups:
            raise LayoutError(f"{groups} groups cannot divide a width of {width}\ncorrect position_groups in the config")
        self.groups, self.kernel = groups, kernel
        self.direction = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.scale = nn.Parameter(torch.empty(1, 1, kernel))
        self.bias = nn.Parameter(torch.empty(width))
        self.activation = ACTIVATIONS[activation]()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        width, _, kernel = self.direction.shape
        nn.init.normal_(self.direction, std=(4 / (kernel * width)) ** 0.5)
        with torch.no_grad():
            self.scale.copy_(self._lengths())
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return convolved(x, self.direction * (self.scale / self._lengths()), self.bias, self.groups, self.activation)

    def _lengths(self) -> Tensor:
        return torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True)  # (1, 1, kernel)

    def for_inference(self) -> nn.Module:
        return MultipliedOut(self)


class MultipliedOut(nn.Module):
    """What a PositionalConvolution computes, with a plain weight."""

    def __init__(self, part: PositionalConvolution):
        super().__init__()
        direction, scale = part.direction.detach().float(), part.scale.detach().float()
        weight = direction * (scale / torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True))
        self.weight = nn.Parameter(weight.to(part.direction.dtype), requires_grad=False)
        self.bias, self.groups, self.activation = part.bias, part.groups, in_place(part.activation)

    def forward(self, x: Tensor) -> Tensor:
        return convolved(x, self.weight, self.bias, self.groups, self.activation)


def convolved(x: Tensor, weight: Tensor, bias: Tensor, groups: int, activation: nn.Module) -> Tensor:
    """Frames convolved with as many zeros around them as leave their number as it is, an even kernel looking back further."""
    heard = F.conv1d(x.transpose(1, 2), weight, bias, padding=weight.shape[2] // 2, groups=groups)
    return activation(heard[:, :, : x.shape[1]]).transpose(1, 2)
