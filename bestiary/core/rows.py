"""How a few rows meet the matrices of a net that decodes, where reading the weights is what takes the time.

A token that is computed alone meets every weight of the net once. On a CPU the usual product of one row reads at a fraction of
what the memory gives, so the nets that decode get their matrices in forms that read fast. Elsewhere they stay as they are.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.block import Stack
from bestiary.core.layers import TiedHead
from bestiary.core.runtime import for_inference
from bestiary.core.step import Step
from bestiary.errors import InputError

FEW = 32  # rows up to which reading the weights takes longer than computing with them

Form = Callable[[Tensor, Tensor | None], nn.Module]  # weight (out, in), bias (out,) or None → a linear layer


def for_decoding(net: nn.Module) -> nn.Module:
    """`for_inference`, on a CPU with the matrices in the form that suits their precision, and a `step` for single tokens.

    What comes out of a CPU's 16-bit net is fp32: only the weights are kept in 16 bits.
    """
    derived, like = for_inference(net), next(net.parameters())
    if like.device.type != "cpu":
        return derived
    decoding: Any = reformed(derived, SplitLinear if like.dtype == torch.float32 else HalfLinear)
    if isinstance(getattr(decoding, "blocks", None), Stack):  # a net of another library keeps its own cache
        decoding.step = Step(decoding)
    return decoding


def reformed(module: nn.Module, form: Form) -> nn.Module:
    """A copy in which every linear layer and tied head has that form, and what else has weights computes in fp32."""
    if isinstance(module, nn.Linear | TiedHead):
        bias = module.bias if isinstance(module, nn.Linear) else None
        return form(module.weight.detach(), None if bias is None else bias.detach()).eval()
    if isinstance(module, PackedLinear | Upcast | RowRmsNorm):
        return module
    if isinstance(module, nn.RMSNorm):
        return RowRmsNorm(module)
    if isinstance(module, nn.Embedding):
        return module if module.weight.dtype == torch.float32 else Upcast(module)
    twin = copy.copy(module)
    twin._parameters = {name: _upcast(value) for name, value in module._parameters.items()}
    twin._modules = {name: child and reformed(child, form) for name, child in module._modules.items()}
    return twin


def _upcast(parameter: nn.Parameter | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.detach().float(), requires_grad=False)


class Upcast(nn.Module):
    """A part whose weights stay in their precision and whose result is fp32."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.part(*inputs).float()


class SplitLinear(nn.Module):
    """A linear layer in fp32 that gives each half of the outputs of a single row to a processor core of its own.

    The usual product of a single row keeps one core busy and lets the others wait.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        parts = torch.get_num_threads() if len(weight) % torch.get_num_threads() == 0 else 1
        self._parts = weight.unflatten(0, (parts, -1)).transpose(1, 2)  # (parts, in, out / parts), a view

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() != x.shape[-1]:
            return F.linear(x, self.weight, self.bias)
        row = x.reshape(1, 1, -1).expand(len(self._parts), 1, -1)
        product = torch.bmm(row, self._parts).view(*x.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


class RowRmsNorm(nn.Module):
    """An RMS norm in fp32 that takes a single row in the fewest steps."""

    def __init__(self, norm: nn.RMSNorm):
        super().__init__()
        self.norm = norm
        self.width = norm.weight.numel()
        self._weight = norm.weight.detach().float()
        self._eps = torch.tensor(norm.eps)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() != self.width:
            return F.rms_norm(x, (self.width,), self._weight, self.norm.eps)
        row = x.reshape(-1)
        scale = torch.add(self._eps, torch.dot(row, row), alpha=1 / self.width).rsqrt_()
        return x * (self._weight * scale)


class PackedLinear(nn.Module):
    """A linear layer whose weight lies in the order and precision that a kernel of the CPU reads fastest.

    It serves inference alone: the weight can be neither trained, saved nor moved to another device.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.out_features, self.in_features = weight.shape

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out), fp32"""

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        raise InputError("packed weights stay in their precision and on the CPU\nload the model where and as you want it")


class HalfLinear(PackedLinear):
    """Weights of 16 bits, rows of fp32: precise to the rounding of the weights, and as fast as the memory.

    The weights are kept as fp16; of bf16 that loses what is smaller than 1e-7. Where there is a weight in bf16 and many rows
    to compute, the product is one of bf16, which processors are best at.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), None if bias is None else bias.float())
        self._native = (weight, bias) if weight.dtype == torch.bfloat16 else None

    def forward(self, x: Tensor) -> Tensor:
        if self._native is not None and x.numel() > FEW * x.shape[-1]:
            return F.linear(x.to(torch.bfloat16), *self._native).float()
        return torch.ops.quantized.linear_dynamic_fp16.default(x, self._packed)
