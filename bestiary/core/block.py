"""The transformer block, composed from parts, and a stack of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from bestiary.core.attention import AttentionSpec, Mask
from bestiary.core.layers import MlpSpec, NormSpec


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Attention and MLP, each with a norm and a residual connection."""

    attention: AttentionSpec
    mlp: MlpSpec
    norm: NormSpec
    order: Literal["post"]  # where the norms stand, a key of BLOCKS

    def build(self) -> nn.Module:
        return BLOCKS[self.order](self)

    def stack(self, layers: int) -> Stack:
        return Stack(self.build() for _ in range(layers))


class PostNormBlock(nn.Module):
    """Norms after the residual sum, as in the original Transformer and BERT."""

    def __init__(self, spec: BlockSpec):
        super().__init__()
        self.attention = spec.attention.build()
        self.attention_norm = spec.norm.build(spec.attention.width)
        self.mlp = spec.mlp.build()
        self.mlp_norm = spec.norm.build(spec.attention.width)

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask))
        return self.mlp_norm(x + self.mlp(x))


BLOCKS = {"post": PostNormBlock}


class Stack(nn.ModuleList):
    """Blocks one after the other: (..., width) → (..., width)."""

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        for block in self:
            x = block(x, mask)
        return x
