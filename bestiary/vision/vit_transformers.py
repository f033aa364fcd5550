"""The key maps of Vision Transformers in the layout of transformers, which has a model of its own for each of their families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same
from bestiary.core.operations import PROJECTIONS, fused, squeezed
from bestiary.errors import LayoutError
from bestiary.vision.vit_layout import embedding, heads, layer, mlp, scales

if TYPE_CHECKING:
    from bestiary.vision.vit import ViTConfig

OURS = "stages.{i}"
NEWER = "layers.{i}"  # release 5 of transformers calls blocks so in memory and in adapters, though not in files of whole models
DECODER_LAYERS = 8  # of every published MAE


def transformers_layout(config: ViTConfig) -> list[Rule]:
    """The names of the family that a net is of; an MAE is read as the ViT that its encoder is."""
    if config.positions == "patches":
        raise LayoutError("transformers gives the class token a position, which this net does not have\ntake the layout timm")
    kind = family(config)
    prefix, rules = FAMILIES[kind]
    # A net without a head is written without the prefix that it has beside one.
    prefixes = (prefix, "") if config.num_classes else ("", prefix)
    head = "visual_projection" if kind == "clip_vision_model" else "classifier"
    return [
        *prefixed(prefixes, rules(config)),
        *heads(config, head, "cls_classifier", "distillation_classifier"),
        *(_decoder() if kind == "vit" and not config.num_classes else ()),
    ]


def family(config: ViTConfig) -> str:
    """The model type of transformers that a net is."""
    if config.pooling == "attention":
        return "siglip_vision_model"
    if config.embedding_norm == "layer":
        return "clip_vision_model"
    if config.layer_scale is not None:
        return "dinov2_with_registers" if config.registers else "dinov2"
    return "deit" if config.class_tokens == 2 else "vit"


def _vit(config: ViTConfig) -> Sequence[Rule]:
    theirs = "encoder.layer.{i}"
    return _encoder(
        config,
        *norm(f"{theirs}.layernorm_before", f"{OURS}.attention_norm"),
        *norm(f"{theirs}.layernorm_after", f"{OURS}.mlp_norm"),
        *linear((f"{theirs}.intermediate.dense", f"{NEWER}.mlp.fc1"), f"{OURS}.mlp.up"),
        *linear((f"{theirs}.output.dense", f"{NEWER}.mlp.fc2"), f"{OURS}.mlp.down"),
    )


def _dinov2(config: ViTConfig) -> Sequence[Rule]:
    theirs = "encoder.layer.{i}"
    up, down = ("fc1", "fc2") if config.mlp == "plain" else ("weights_in", "weights_out")
    return _encoder(
        config,
        *norm(f"{theirs}.norm1", f"{OURS}.attention_norm"),
        *norm(f"{theirs}.norm2", f"{OURS}.mlp_norm"),
        *mlp(config, f"{theirs}.mlp.{up}", f"{theirs}.mlp.{down}"),
        *scales(config, f"{theirs}.layer_scale1.lambda1", f"{theirs}.layer_scale2.lambda1"),
    )


def _encoder(config: ViTConfig, *block: Rule) -> Sequence[Rule]:
    """ViT, DeiT or DINOv2, whose blocks differ in the names of norms and MLP."""
    theirs, newer = "encoder.layer.{i}.attention", f"{NEWER}.attention"
    return (
        *embedding(
            config,
            ("embeddings.cls_token", "embeddings.distillation_token"),
            "embeddings.register_tokens",
            "embeddings.position_embeddings",
            "embeddings.patch_embeddings.projection",
        ),
        *each(
            config.layers,
            *(
                rule
                for part in PROJECTIONS
                for rule in linear((f"{theirs}.attention.{part}", f"{newer}.{part[0]}_proj"), f"{OURS}.attention.{part}")
            ),
            *linear((f"{theirs}.output.dense", f"{newer}.o_proj"), f"{OURS}.attention.output"),
            *block,
        ),
        *norm("layernorm", "norm"),
        *ignored("embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"),
    )


def _tower(config: ViTConfig) -> Sequence[Rule]:
    """The image tower of CLIP or SigLIP."""
    theirs = "encoder.layers.{i}"
    projections = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output"))
    return (
        *((squeezed("embeddings.class_embedding", "embedding.class_token", sides=2),) if config.class_tokens else ()),
        squeezed("embeddings.position_embedding.weight", "embedding.positions", sides=1),
        *layer("embeddings.patch_embedding", "embedding.patch", config.patch_bias),
        *(norm("pre_layrnorm", "embedding.norm") if config.embedding_norm == "layer" else ()),
        *each(
            config.layers,
            *norm(f"{theirs}.layer_norm1", f"{OURS}.attention_norm"),
            *(rule for name, ours in projections for rule in linear(f"{theirs}.self_attn.{name}", f"{OURS}.attention.{ours}")),
            *norm(f"{theirs}.layer_norm2", f"{OURS}.mlp_norm"),
            *mlp(config, f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"),
        ),
        *norm("post_layernorm", "norm"),
        *(_attention_pool() if config.pooling == "attention" else ()),
        *ignored("embeddings.position_ids"),
    )


def _attention_pool() -> Sequence[Rule]:
    theirs, ours = "head", "attention_pool"
    return (
        same(f"{theirs}.probe", f"{ours}.probe"),
        *fused(f"{theirs}.attention.in_proj_", f"{ours}.attention", PROJECTIONS),
        *linear(f"{theirs}.attention.out_proj", f"{ours}.attention.output"),
        *norm(f"{theirs}.layernorm", f"{ours}.norm"),
        *linear(f"{theirs}.mlp.fc1", f"{ours}.mlp.up"),
        *linear(f"{theirs}.mlp.fc2", f"{ours}.mlp.down"),
    )


def _decoder() -> Sequence[Rule]:
    """The decoder of an MAE, which paints what was masked and which only its training needs."""
    layers = [
        f"{block}.{part}.{kind}"
        for block in ("decoder_layers.{i}", "decoder_encoder.layer.{i}")  # as published, and as transformers 5 writes it
        for part in (
            *(f"attention.{name}" for name in ("attention.query", "attention.key", "attention.value", "output.dense")),
            *("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"),
        )
        for kind in ("weight", "bias")
    ]
    ends = [f"{part}.{kind}" for part in ("decoder_embed", "decoder_norm", "decoder_pred") for kind in ("weight", "bias")]
    rules = (*ignored("mask_token", "decoder_pos_embed", *ends), *each(DECODER_LAYERS, *ignored(*layers)))
    return prefixed(("decoder.",), rules)


# For each model type the prefix of its names beside a head, and its rules.
FAMILIES: Mapping[str, tuple[str, Callable[[ViTConfig], Sequence[Rule]]]] = {
    "vit": ("vit.", _vit),
    "deit": ("deit.", _vit),
    "dinov2": ("dinov2.", _dinov2),
    "dinov2_with_registers": ("dinov2_with_registers.", _dinov2),
    "clip_vision_model": ("vision_model.", _tower),
    "siglip_vision_model": ("vision_model.", _tower),
}
