"""What convolutional nets are made of: convolution with norm and activation, SAME padding, squeeze-and-excite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from bestiary.core.keymap import Rule, Tensors, norm, same
from bestiary.core.layers import in_place
from bestiary.core.runtime import for_inference

Net = TypeVar("Net", bound=nn.Module)


class SameConvolution(nn.Conv2d):
    """A convolution with the SAME padding of TensorFlow: a side of size s gives ceil(s / stride), whatever the kernel.

    The zeros that this takes depend on the size. Where their number is odd, one more stands behind (right, below) than before.
    """

    def forward(self, x: Tensor) -> Tensor:
        above, below = self.margins(x.shape[-2], 0)
        left, right = self.margins(x.shape[-1], 1)
        return super().forward(F.pad(x, (left, right, above, below)))

    def for_inference(self) -> nn.Module:
        return ShiftedConvolution(self)

    def margins(self, size: int, side: int) -> tuple[int, int]:
        """Zeros before and behind a side (0: height, 1: width) of that size."""
        stride, reach = self.stride[side], self.dilation[side] * (self.kernel_size[side] - 1) + 1
        zeros = (size - 1) // stride * stride + reach - size
        if reach < stride:  # else it is never below 0, and what traces sizes need not ask so at every layer
            zeros = max(zeros, 0)
        return zeros // 2, zeros - zeros // 2


class ShiftedConvolution(nn.Module):
    """What a SameConvolution computes, without the padded copy of its input, which costs as much as the convolution.

    Odd padding is not for a kernel to do. So both ends get what the front needs and a stride more: then the first output is
    one that nobody asked for, and all behind it stand where they should.
    """

    def __init__(self, convolution: SameConvolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        same = self.convolution
        sides = [same.margins(size, side) for side, size in enumerate(x.shape[-2:])]
        if all(before == behind for before, behind in sides):
            padding = [before for before, _ in sides]
            return F.conv2d(x, same.weight, same.bias, same.stride, padding, same.dilation, same.groups)
        padding = [before + stride for (before, _), stride in zip(sides, same.stride, strict=True)]
        shifted = F.conv2d(x, same.weight, same.bias, same.stride, padding, same.dilation, same.groups)
        rows, columns = (-(-size // stride) for size, stride in zip(x.shape[-2:], same.stride, strict=True))
        return shifted[..., 1 : rows + 1, 1 : columns + 1]


def symmetric(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias whose odd kernel sees as many zeros before as behind: PyTorch's habit."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


def same_as_tensorflow(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, of odd kernel, with SAME padding; at stride 1 that is the symmetric one."""
    if stride == 1:
        return symmetric(inputs, outputs, kernel, stride, groups)
    return SameConvolution(inputs, outputs, kernel, stride, groups=groups, bias=False)


CONVOLUTIONS: dict[str, Callable[..., nn.Conv2d]] = {"symmetric": symmetric, "same": same_as_tensorflow}


class ConvNorm(nn.Module):
    """Convolution, batch norm (Ioffe & Szegedy 2015, arXiv:1502.03167), activation: (n, inputs, h, w) → (n, outputs, h', w').

    At inference the norm is part of the convolution, the weights lie channels-last and the activation works in place.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module, *, eps: float):
        super().__init__()
        self.convolution = convolution
        self.norm: nn.BatchNorm2d | FrozenBatchNorm = nn.BatchNorm2d(convolution.out_channels, eps)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.convolution(x)))

    def for_inference(self) -> nn.Module:
        convolution = copy.copy(self.convolution)
        convolution._parameters = dict(zip(("weight", "bias"), self._folded(), strict=True))
        return nn.Sequential(for_inference(convolution), in_place(self.activation))

    def _folded(self) -> tuple[nn.Parameter, nn.Parameter]:
        weight, norm = self.convolution.weight, self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        values = (weight, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        precise = torch.promote_types(weight.dtype, torch.float32)  # bf16 has too few digits to divide by a deviation
        kernel, mean, variance, scale, shift = (value.detach().to(precise) for value in values)
        folded = fuse_conv_bn_weights(kernel, None, mean, variance, norm.eps, scale, shift)
        kernel, bias = (value.detach().to(weight.dtype) for value in folded)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        return nn.Parameter(kernel, requires_grad=False), nn.Parameter(bias, requires_grad=False)


class FrozenBatchNorm(nn.Module):
    """A batch norm whose statistics and affine map training leaves alone: (n, channels, h, w) → (n, channels, h, w)

    Detectors keep so what the classifier had learned that they are tuned from: their own batches are too small for it.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        for name, value in {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def with_frozen_norms(net: Net) -> Net:
    """The net itself, with frozen norms in place of the batch norms of its convolutions."""
    for part in net.modules():
        if isinstance(part, ConvNorm):
            part.norm = FrozenBatchNorm(part.convolution.out_channels, part.norm.eps)
    return net


class SqueezeExcite(nn.Module):
    """Each channel scaled by what the mean over the image says (Hu et al. 2017, arXiv:1709.01507): (n, channels, h, w).

    The scales leave a `gate`, a sigmoid if none is given. At inference they are written over the input.
    """

    def __init__(self, channels: int, squeezed: int, activation: nn.Module, gate: nn.Module | None = None):
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate or nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # (n, channels, 1, 1)
        return x * self.gate(self.expand(self.activation(self.reduce(mean))))

    def for_inference(self) -> nn.Module:
        return ExciteInPlace(self)


class ExciteInPlace(nn.Module):
    """What a SqueezeExcite computes, without a further tensor of the size of its input."""

    def __init__(self, part: SqueezeExcite):
        super().__init__()
        self.scale = nn.Sequential(*map(for_inference, (part.reduce, part.activation, part.expand, part.gate)))

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.scale(x.mean((2, 3), keepdim=True)))


def conv_norm(their_convolution: str, their_norm: str, ours: str) -> tuple[Rule, ...]:
    """The key map of a ConvNorm."""
    return (
        same(f"{their_convolution}.weight", f"{ours}.convolution.weight"),
        *norm(their_norm, f"{ours}.norm"),
        *(same(f"{their_norm}.{name}", f"{ours}.norm.{name}") for name in ("running_mean", "running_var")),
        Rule(((f"{their_norm}.num_batches_tracked",), ()), (f"{ours}.norm.num_batches_tracked",), Count()),
    )


@dataclass(frozen=True)
class Count:
    """The batches that a norm has seen in training: none are known of where the file, written before PyTorch 0.4.1, has no count.

    Nothing that a norm of fixed momentum computes hangs on it.
    """

    def load(self, theirs: Tensors) -> Tensors:
        return theirs or (torch.zeros((), dtype=torch.long),)

    def save(self, ours: Tensors) -> Tensors:
        return ours
