"""The transformer block, composed from parts, and a stack of blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from bestiary.core.attention import AttentionSpec
from bestiary.core.context import Context
from bestiary.core.layers import LayerScale, MlpSpec, NormSpec
from bestiary.core.residual import DropPath


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Attention and MLP, each with a norm and a residual connection."""

    attention: AttentionSpec
    mlp: MlpSpec
    norm: NormSpec
    order: Literal["post", "pre", "pre_scaled", "sandwich", "pre_cross", "post_cross"]  # where the norms stand, a key of BLOCKS
    attention_norm: NormSpec | None = None  # where it is not like the others
    cross_attention: AttentionSpec | None = None  # to the memory of the context, in the "cross" ones
    layer_scale: float | None = None  # what the scales of both branches begin with, in "pre_scaled"; None: there are none
    drop_path: float = 0.0  # share of the batch for which training drops a branch, in "pre_scaled"

    def build(self) -> nn.Module:
        return BLOCKS[self.order](self)

    def stack(self, layers: int) -> Stack:
        return Stack(self.build() for _ in range(layers))


class PostNormBlock(nn.Module):
    """Norms after the residual sum, as in the original Transformer and BERT."""

    def __init__(self, spec: BlockSpec):
        super().__init__()
        width = spec.attention.width
        self.attention = spec.attention.build()
        self.attention_norm = (spec.attention_norm or spec.norm).build(width)
        self.mlp = spec.mlp.build()
        self.mlp_norm = spec.norm.build(width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = self.attention_norm(x + self.attention(x, context))
        return self.mlp_norm(x + self.mlp(x))


class PreNormBlock(PostNormBlock):
    """Norms before attention and MLP, the residual sum untouched (Xiong et al. 2020, arXiv:2002.04745)."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.mlp(self.mlp_norm(x))


class ScaledBlock(PostNormBlock):
    """Norms before attention and MLP, each scaled, and dropped now and then while training, before it is added."""

    def __init__(self, spec: BlockSpec):
        super().__init__(spec)
        self.attention_scale = _scale(spec)
        self.mlp_scale = _scale(spec)
        self.drop = DropPath(spec.drop_path)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.drop(self.attention_scale(self.attention(self.attention_norm(x), context)))
        return x + self.drop(self.mlp_scale(self.mlp(self.mlp_norm(x))))


def _scale(spec: BlockSpec) -> nn.Module:
    return nn.Identity() if spec.layer_scale is None else LayerScale(spec.attention.width, spec.layer_scale)


class SandwichBlock(PostNormBlock):
    """Norms before and after both, the residual sum untouched (Gemma 2, arXiv:2408.00118, section 2)."""

    def __init__(self, spec: BlockSpec):
        super().__init__(spec)
        width = spec.attention.width
        self.attention_out_norm = spec.norm.build(width)
        self.mlp_out_norm = spec.norm.build(width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention_out_norm(self.attention(self.attention_norm(x), context))
        return x + self.mlp_out_norm(self.mlp(self.mlp_norm(x)))


class PreNormCrossBlock(PostNormBlock):
    """Norms before attention, cross-attention and MLP: the block of a decoder that reads an encoder."""

    def __init__(self, spec: BlockSpec):
        super().__init__(spec)
        assert spec.cross_attention is not None, "a block with cross-attention says which"
        self.cross_attention = spec.cross_attention.build_cross()
        self.cross_attention_norm = spec.norm.build(spec.attention.width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        x = x + self.cross_attention(self.cross_attention_norm(x), context)
        return x + self.mlp(self.mlp_norm(x))


class PostNormCrossBlock(PreNormCrossBlock):
    """The same with norms after each residual sum, as in the decoder of the original Transformer."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = self.attention_norm(x + self.attention(x, context))
        x = self.cross_attention_norm(x + self.cross_attention(x, context))
        return self.mlp_norm(x + self.mlp(x))


BLOCKS: dict[str, Callable[[BlockSpec], nn.Module]] = {
    "post": PostNormBlock,
    "pre": PreNormBlock,
    "pre_scaled": ScaledBlock,
    "sandwich": SandwichBlock,
    "pre_cross": PreNormCrossBlock,
    "post_cross": PostNormCrossBlock,
}


class Stack(nn.ModuleList):
    """Blocks one after the other: (..., width) → (..., width)."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        for block, its_context in zip(self, context.layers(len(self)), strict=True):
            x = block(x, its_context)
        return x
