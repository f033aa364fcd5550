"""Norms, MLPs and heads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.errors import LayoutError


class QuickGelu(nn.Module):
    """x · sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,  # the exact one, by the error function
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "hard_sigmoid": nn.Hardsigmoid,  # the sigmoid in straight lines, as is hard_swish SiLU (arXiv:1905.02244, section 5.2)
    "hard_swish": nn.Hardswish,
    "none": nn.Identity,
    "quick_gelu": QuickGelu,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class GeluInPlace(nn.GELU):
    """GELU that writes over its input: on a CPU another tensor of that size takes nearly as long as the values in it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.gelu_(x, approximate=self.approximate)


def in_place(activation: nn.Module) -> nn.Module:
    """The activation writing over its input, where PyTorch has it in that form; for inference."""
    if isinstance(activation, nn.GELU):
        return GeluInPlace(activation.approximate)
    twin: Any = copy.copy(activation)
    if hasattr(twin, "inplace"):
        twin.inplace = True
    return twin


@dataclass(frozen=True, kw_only=True)
class NormSpec:
    """What keeps hidden states at one size; see NORMS for the kinds."""

    kind: Literal["layer", "layer_without_bias", "rms", "rms_offset", "none"] = "layer"
    eps: float  # the checkpoint's own: libraries differ in their defaults

    def build(self, width: int) -> nn.Module:
        return NORMS[self.kind](width, self.eps)


class OffsetRmsNorm(nn.Module):
    """RMS norm whose weight is stored as its distance from 1, and applied before the result is cast down, as Gemma does."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], 1 + self.weight.float(), self.eps).to(x.dtype)


NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "layer": nn.LayerNorm,  # Ba et al. 2016, arXiv:1607.06450
    "layer_without_bias": partial(nn.LayerNorm, bias=False),
    "rms": nn.RMSNorm,  # Zhang and Sennrich 2019, arXiv:1910.07467
    "rms_offset": OffsetRmsNorm,
    "none": lambda width, eps: nn.Identity(),
}


@dataclass(frozen=True, kw_only=True)
class MlpSpec:
    """Linear layers around an activation; see MLPS for the kinds."""

    width: int  # size of a hidden state
    hidden: int  # size between the layers
    activation: str  # a name in ACTIVATIONS
    kind: Literal["plain", "gated"] = "plain"
    bias: bool = True

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise LayoutError(f"there is no activation {self.activation!r}\nit is one of {', '.join(ACTIVATIONS)}")

    def build(self) -> nn.Module:
        return MLPS[self.kind](self)


class Mlp(nn.Module):
    """Up, activation, down: (..., width) → (..., width)"""

    def __init__(self, spec: MlpSpec):
        super().__init__()
        self.up = nn.Linear(spec.width, spec.hidden, spec.bias)
        self.activation = ACTIVATIONS[spec.activation]()
        self.down = nn.Linear(spec.hidden, spec.width, spec.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))

    def for_inference(self) -> nn.Module:
        """The same with the activation in place."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "activation": in_place(self.activation)}
        return twin


class GatedMlp(nn.Module):
    """The activated gate times up, then down (Shazeer 2020, arXiv:2002.05202, equation 6): (..., width) → (..., width)"""

    def __init__(self, spec: MlpSpec):
        super().__init__()
        self.gate = nn.Linear(spec.width, spec.hidden, spec.bias)
        self.up = nn.Linear(spec.width, spec.hidden, spec.bias)
        self.activation = ACTIVATIONS[spec.activation]()
        self.down = nn.Linear(spec.hidden, spec.width, spec.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))

    def for_inference(self) -> FusedGatedMlp:
        return FusedGatedMlp(self)


class FusedGatedMlp(nn.Module):
    """`GatedMlp` at inference: one product gives gate and up."""

    def __init__(self, mlp: GatedMlp):
        super().__init__()
        self.gate_up = joined([mlp.gate, mlp.up])
        self.activation = mlp.activation
        self.down = mlp.down

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate).mul_(up))  # of many rows a further tensor of this size costs as much as the gate


def joined(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer that gives the outputs of several side by side; its weight is a copy."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    fused = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    fused.weight = nn.Parameter(weight, requires_grad=False)
    if any(layer.bias is not None for layer in layers):
        biases = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers]
        fused.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return fused


class LayerScale(nn.Module):
    """Each number of a hidden state times a learned one, small at first (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, initial: float):
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.full((width,), initial))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


MLPS: dict[str, Callable[[MlpSpec], nn.Module]] = {"plain": Mlp, "gated": GatedMlp}


class Tied(nn.Module):
    """What computes with the weight of an embedding, of which it holds no copy."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self._embedding = (embedding,)  # in a tuple, as it is a part of the net that owns it and not of this one

    @property
    def weight(self) -> Tensor:
        return self._embedding[0].weight


class TiedHead(Tied):
    """Logits: (..., width) → (..., vocabulary)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class TiedEmbedding(Tied):
    """Embeddings of a second reader of the same tokens: (...) → (..., width)"""

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)


class ScaledEmbedding(nn.Embedding):
    """Embeddings times a number, as Gemma's are by the square root of their width: (...) → (..., width)"""

    def __init__(self, vocabulary: int, width: int, scale: float):
        super().__init__(vocabulary, width)
        self.scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        # In low precision the scale is rounded as well: nets were trained so.
        return super().forward(tokens) * torch.full((), self.scale, dtype=self.weight.dtype, device=self.weight.device)


class Softcap(nn.Module):
    """Keeps every x within ±cap: cap · tanh(x / cap) (Gemma 2, arXiv:2408.00118, section 2)."""

    def __init__(self, cap: float):
        super().__init__()
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        return self.cap * torch.tanh(x / self.cap)
