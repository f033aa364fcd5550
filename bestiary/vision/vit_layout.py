"""The key maps of Vision Transformers in the layouts that they are published in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same
from bestiary.core.operations import split
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.vision.vit import ViTConfig

PROJECTIONS = ("query", "key", "value")


def timm_layout(config: ViTConfig) -> list[Rule]:
    return [
        *embedding(config, "cls_token", "reg_token", "pos_embed", "patch_embed.proj"),
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
        *(linear("head", "head") if config.num_classes else ()),
    ]


def torchvision_layout(config: ViTConfig) -> list[Rule]:
    theirs, ours = "encoder.layers.encoder_layer_{i}", "stages.{i}"
    if config.layer_scale is not None or config.registers or config.mlp != "plain":
        raise LayoutError("torchvision has no ViT with layer scale, registers or a gated MLP\ntake another layout")
    return [
        *embedding(config, "class_token", "", "encoder.pos_embedding", "conv_proj"),
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
        *(linear("heads.head", "head") if config.num_classes else ()),
    ]


def transformers_layout(config: ViTConfig) -> list[Rule]:
    """The names of ViT, and those of DINOv2 for a net with layer scale."""
    if config.positions == "patches":
        raise LayoutError("transformers gives the class token a position, which this net does not have\ntake the layout timm")
    model, block = ("vit.", _vit_block) if config.layer_scale is None else ("dinov2.", _dinov2_block)
    models = (model, "") if config.registers == 0 else ("dinov2_with_registers.", "")
    theirs, ours = "encoder.layer.{i}", "stages.{i}"
    encoder = [
        *embedding(
            config,
            "embeddings.cls_token",
            "embeddings.register_tokens",
            "embeddings.position_embeddings",
            "embeddings.patch_embeddings.projection",
        ),
        *each(
            config.layers,
            *(
                rule
                for part in PROJECTIONS
                for rule in linear(f"{theirs}.attention.attention.{part}", f"{ours}.attention.{part}")
            ),
            *linear(f"{theirs}.attention.output.dense", f"{ours}.attention.output"),
            *block(config, theirs, ours),
        ),
        *norm("layernorm", "norm"),
        *ignored("embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"),
    ]
    # A net without a head is written without the prefix that it has beside one.
    order = models if config.num_classes else models[::-1]
    return [*prefixed(order, encoder), *(linear("classifier", "head") if config.num_classes else ())]


def _vit_block(config: ViTConfig, theirs: str, ours: str) -> Sequence[Rule]:
    return (
        *norm(f"{theirs}.layernorm_before", f"{ours}.attention_norm"),
        *norm(f"{theirs}.layernorm_after", f"{ours}.mlp_norm"),
        *mlp(config, f"{theirs}.intermediate.dense", f"{theirs}.output.dense"),
    )


def _dinov2_block(config: ViTConfig, theirs: str, ours: str) -> Sequence[Rule]:
    up, down = ("fc1", "fc2") if config.mlp == "plain" else ("weights_in", "weights_out")
    return (
        *norm(f"{theirs}.norm1", f"{ours}.attention_norm"),
        *norm(f"{theirs}.norm2", f"{ours}.mlp_norm"),
        *mlp(config, f"{theirs}.mlp.{up}", f"{theirs}.mlp.{down}"),
        *scales(config, f"{theirs}.layer_scale1.lambda1", f"{theirs}.layer_scale2.lambda1"),
    )


def embedding(config: ViTConfig, class_token: str, registers: str, positions: str, patch: str) -> Sequence[Rule]:
    return (
        *((same(class_token, "embedding.class_token"),) if config.class_tokens else ()),
        *((same(registers, "embedding.registers"),) if config.registers else ()),
        same(positions, "embedding.positions"),
        *linear(patch, "embedding.patch"),
    )


def mlp(config: ViTConfig, up: str, down: str) -> Sequence[Rule]:
    """The MLP of a block; gate and up of a gated one are one layer in files."""
    first = fused(f"{up}.", "stages.{i}.mlp", ("gate", "up")) if config.mlp == "gated" else linear(up, "stages.{i}.mlp.up")
    return (*first, *linear(down, "stages.{i}.mlp.down"))


def scales(config: ViTConfig, attention: str, mlp: str) -> Sequence[Rule]:
    """The scales of both branches of a block."""
    names = ((attention, "attention_scale"), (mlp, "mlp_scale"))
    return [same(theirs, f"stages.{{i}}.{ours}.weight") for theirs, ours in names if config.layer_scale is not None]


def fused(theirs: str, ours: str, parts: Sequence[str]) -> Sequence[Rule]:
    """Layers of ours whose weights are one tensor in the file, and whose biases are another."""
    return [split(f"{theirs}{kind}", *(f"{ours}.{part}.{kind}" for part in parts)) for kind in ("weight", "bias")]
