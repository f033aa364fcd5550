"""The key maps of Vision Transformers in the layouts of timm and torchvision; those of transformers have a file of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bestiary.core.keymap import Rule, each, linear, norm, same
from bestiary.core.operations import PROJECTIONS, fused, joined
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.vision.vit import ViTConfig


def timm_layout(config: ViTConfig) -> list[Rule]:
    return [
        *embedding(config, ("cls_token", "dist_token"), "reg_token", "pos_embed", "patch_embed.proj"),
        *(norm("norm_pre", "embedding.norm") if config.embedding_norm == "layer" else ()),
        *each(
            config.layers,
            *norm("blocks.{i}.norm1", "stages.{i}.attention_norm"),
            *fused("blocks.{i}.attn.qkv.", "stages.{i}.attention", PROJECTIONS),
            *linear("blocks.{i}.attn.proj", "stages.{i}.attention.output"),
            *norm("blocks.{i}.norm2", "stages.{i}.mlp_norm"),
            *mlp(config, "blocks.{i}.mlp.fc1", "blocks.{i}.mlp.fc2"),
            *scales(config, "blocks.{i}.ls1.gamma", "blocks.{i}.ls2.gamma"),
        ),
        *(norm("norm", "norm") if config.norm == "tokens" else norm("fc_norm", "pooled_norm")),
        *(_timm_attention_pool() if config.pooling == "attention" else ()),
        *heads(config, "head", "head", "head_dist"),
    ]


def _timm_attention_pool() -> Sequence[Rule]:
    ours, theirs = "attention_pool", "attn_pool"
    return (
        same(f"{theirs}.latent", f"{ours}.probe"),
        *linear(f"{theirs}.q", f"{ours}.attention.query"),
        *fused(f"{theirs}.kv.", f"{ours}.attention", ("key", "value")),
        *linear(f"{theirs}.proj", f"{ours}.attention.output"),
        *norm(f"{theirs}.norm", f"{ours}.norm"),
        *linear(f"{theirs}.mlp.fc1", f"{ours}.mlp.up"),
        *linear(f"{theirs}.mlp.fc2", f"{ours}.mlp.down"),
    )


def torchvision_layout(config: ViTConfig) -> list[Rule]:
    theirs, ours = "encoder.layers.encoder_layer_{i}", "stages.{i}"
    known: dict[str, Any] = {"class_tokens": 1, "registers": 0, "positions": "tokens", "pooling": "class", "norm": "tokens"}
    known |= {"embedding_norm": "none", "layer_scale": None, "mlp": "plain"}
    if other := [field for field, value in known.items() if getattr(config, field) != value]:
        raise LayoutError(f"torchvision has no ViT with {other[0]}: {getattr(config, other[0])}\ntake another layout")
    return [
        *embedding(config, ("class_token",), "", "encoder.pos_embedding", "conv_proj"),
        *each(
            config.layers,
            *norm(f"{theirs}.ln_1", f"{ours}.attention_norm"),
            *fused(f"{theirs}.self_attention.in_proj_", f"{ours}.attention", PROJECTIONS),
            *linear(f"{theirs}.self_attention.out_proj", f"{ours}.attention.output"),
            *norm(f"{theirs}.ln_2", f"{ours}.mlp_norm"),
            *(  # the first files of torchvision name the layers, later ones number them
                same((f"{theirs}.mlp.{number}.{part}", f"{theirs}.mlp.linear_{layer}.{part}"), f"{ours}.mlp.{name}.{part}")
                for number, layer, name in ((0, 1, "up"), (3, 2, "down"))
                for part in ("weight", "bias")
            ),
        ),
        *norm("encoder.ln", "norm"),
        *heads(config, "heads.head"),
    ]


def embedding(config: ViTConfig, class_tokens: Sequence[str], registers: str, positions: str, patch: str) -> Sequence[Rule]:
    names = tuple(class_tokens[: config.class_tokens])
    return (
        *((joined(names, "embedding.class_token", dim=1),) if names else ()),
        *((same(registers, "embedding.registers"),) if config.registers else ()),
        same(positions, "embedding.positions"),
        *layer(patch, "embedding.patch", config.patch_bias),
    )


def layer(theirs: str, ours: str, bias: bool) -> Sequence[Rule]:
    """A linear layer or a convolution that has a bias, or none."""
    return linear(theirs, ours)[: 1 + bias]


def mlp(config: ViTConfig, up: str, down: str) -> Sequence[Rule]:
    """The MLP of a block; gate and up of a gated one are one layer in files."""
    first = fused(f"{up}.", "stages.{i}.mlp", ("gate", "up")) if config.mlp == "gated" else linear(up, "stages.{i}.mlp.up")
    return (*first, *linear(down, "stages.{i}.mlp.down"))


def scales(config: ViTConfig, attention: str, mlp: str) -> Sequence[Rule]:
    """The scales of both branches of a block."""
    names = ((attention, "attention_scale"), (mlp, "mlp_scale"))
    return [same(theirs, f"stages.{{i}}.{ours}.weight") for theirs, ours in names if config.layer_scale is not None]


def heads(config: ViTConfig, head: str, label: str = "", teacher: str = "") -> Sequence[Rule]:
    """The head, or both of a distilled net."""
    if not config.num_classes:
        return ()
    if config.pooling == "distilled":
        return (*linear(label, "head.label"), *linear(teacher, "head.teacher"))
    return layer(head, "head", config.head_bias)
