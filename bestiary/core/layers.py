"""Norms and MLPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,  # the exact one, by the error function
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
}


@dataclass(frozen=True, kw_only=True)
class NormSpec:
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450)."""

    kind: Literal["layer"] = "layer"
    eps: float  # the checkpoint's own: libraries differ in their defaults

    def build(self, width: int) -> nn.Module:
        return nn.LayerNorm(width, self.eps)


@dataclass(frozen=True, kw_only=True)
class MlpSpec:
    """Two linear layers with an activation between them."""

    width: int  # size of a hidden state
    hidden: int  # size between the two layers
    activation: str  # a name in ACTIVATIONS

    def build(self) -> Mlp:
        return Mlp(self)


class Mlp(nn.Module):
    """(..., width) → (..., width)"""

    def __init__(self, spec: MlpSpec):
        super().__init__()
        self.up = nn.Linear(spec.width, spec.hidden)
        self.activation = ACTIVATIONS[spec.activation]()
        self.down = nn.Linear(spec.hidden, spec.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))
