"""How a few rows meet the matrices of a net that decodes, where reading the weights is what takes the time.

A token that is computed alone meets every weight of the net once. On a CPU the usual product of one row reads at a fraction of
what the memory gives, so the nets that decode get their matrices in forms that read fast. Elsewhere they stay as they are.
"""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.block import Stack
from bestiary.core.layers import TiedEmbedding, TiedHead
from bestiary.core.runtime import computes_natively, for_inference, replaced
from bestiary.core.step import Step
from bestiary.errors import InputError

FEW = 16  # rows up to which reading the weights takes about as long as computing with them

Form = Callable[[Tensor, Tensor | None], nn.Module]  # weight (out, in), bias (out,) or None → a linear layer


def for_decoding(net: nn.Module) -> nn.Module:
    """`for_inference`, on a CPU with the matrices in the form that suits their precision, and a `step` for single tokens.

    What comes out of a CPU's 16-bit net is fp32: only the weights are kept in 16 bits.
    """
    derived, like = for_inference(net), next(net.parameters())
    form = _form(like.dtype) if like.device.type == "cpu" else None
    if form is None:
        return derived
    decoding: Any = reformed(derived, form)
    decoder = getattr(decoding, "decoder", decoding)  # of a net that has an encoder too
    if isinstance(getattr(decoder, "blocks", None), Stack):  # a net of another library keeps a cache of its own
        decoder.step = Step(decoder)
    return decoding


def for_encoding(net: nn.Module) -> nn.Module:
    """`for_inference`, on a CPU with the matrices laid out as its products take them, not laid out at each."""
    derived, like = for_inference(net), next(net.parameters())
    native = like.dtype == torch.float32 or computes_natively(like.dtype, like.device)
    blocked = like.device.type == "cpu" and native and torch.backends.mkldnn.is_available()
    return with_linears(derived, BlockedLinear) if blocked else derived


def _form(dtype: torch.dtype) -> Form | None:
    """What torch, as it was built for this processor, has kernels for."""
    if dtype == torch.float32:
        return BlockedLinear if torch.backends.mkldnn.is_available() else None
    return HalfLinear if "fbgemm" in torch.backends.quantized.supported_engines else None


def with_linears(module: nn.Module, form: Form) -> nn.Module:
    """A copy in which every linear layer and tied head has that form, and the rest is shared."""
    return replaced(module, lambda part: _in_form(part, form) if isinstance(part, nn.Linear | TiedHead) else None)


def reformed(module: nn.Module, form: Form) -> nn.Module:
    """A copy in which every linear layer and tied head has that form, and what else has weights computes in fp32."""
    if isinstance(module, nn.Linear | TiedHead):
        return _in_form(module, form)
    if isinstance(module, PackedLinear | Upcast | RowRmsNorm):
        return module
    if isinstance(module, nn.RMSNorm):
        return RowRmsNorm(module)
    if isinstance(module, TiedEmbedding):
        module = nn.Embedding.from_pretrained(module.weight.detach())
    if isinstance(module, nn.Embedding):
        return module if module.weight.dtype == torch.float32 else Upcast(module)
    twin = copy.copy(module)
    twin._parameters = {name: _upcast(value) for name, value in module._parameters.items()}
    twin._modules = {name: child and reformed(child, form) for name, child in module._modules.items()}
    return twin


def _in_form(module: nn.Linear | TiedHead, form: Form) -> nn.Module:
    bias = getattr(module, "bias", None)  # of tied heads some have one
    return form(module.weight.detach(), None if bias is None else bias.detach()).eval()


def _upcast(parameter: nn.Parameter | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.detach().float(), requires_grad=False)


class Upcast(nn.Module):
    """A part whose weights stay in their precision and whose result is fp32."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.part(*inputs).float()


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
        """(..., in) → (..., out)"""

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        raise InputError("packed weights stay in their precision and on the CPU\nload the model where and as you want it")


class BlockedLinear(PackedLinear):
    """Weights of fp32 or bf16 in blocks, for rows of the same, few or many.

    The usual product of a single row keeps one core busy of all, and that of many rows lays the weights out each time.
    """

    _packed: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        _product()  # made here, as threads that compute side by side may not make it at the same time
        self._bias = bias
        self.register_buffer("_packed", torch.ops.mkldnn._reorder_linear_weight(weight, FEW), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return _product()(x, self._packed, self._bias)


def one_dnn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer by oneDNN, of weights (out, in) as they are or laid out for it: (..., in) → (..., out)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@cache
def _product() -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The product as a script, since a trace cannot take up the empty list in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripts have no successor that starts so fast
        return torch.jit.script(one_dnn_linear)


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
