"""How transformers publishes SegFormer and its encoder, the Mix Transformer: keys, config.json, and what lies beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bestiary.core.configclasses import Classes
from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.configparts import OneOf
from bestiary.core.convolution import conv_norm
from bestiary.core.keymap import Rule, each, linear, norm, prefixed, within
from bestiary.errors import LayoutError
from bestiary.vision.processor import RESAMPLING, ProcessorFolder

if TYPE_CHECKING:
    from bestiary.vision.mit import MixTransformerConfig
    from bestiary.vision.segformer import SegformerConfig


def mit_layout(config: MixTransformerConfig) -> list[Rule]:
    # A net without a head is written without the prefix that it has beside one.
    prefixes = ("segformer.", "") if config.num_classes else ("", "segformer.")
    head = linear("classifier", "head") if config.num_classes else ()
    return [*prefixed(prefixes, encoder_rules(config)), *head]


def segformer_layout(config: SegformerConfig) -> list[Rule]:
    return [
        *prefixed(("segformer.",), within("encoder", encoder_rules(config))),
        *each(len(config.widths), *linear("decode_head.linear_c.{i}.proj", "decoder.projections.{i}")),
        *conv_norm("decode_head.linear_fuse", "decode_head.batch_norm", "decoder.fusion"),
        *linear("decode_head.classifier", "decoder.classifier"),
    ]


def encoder_rules(config: MixTransformerConfig) -> list[Rule]:
    """The stages, whose norms, embeddings and blocks are in files three lists."""
    rules: list[Rule] = []
    for stage, (depth, reduction) in enumerate(zip(config.depths, config.reductions, strict=True)):
        ours = f"stages.{stage}"
        rules += [
            *linear(f"encoder.patch_embeddings.{stage}.proj", f"{ours}.patch"),
            *norm(f"encoder.patch_embeddings.{stage}.layer_norm", f"{ours}.patch_norm"),
            *each(depth, *block_rules(f"encoder.block.{stage}.{{i}}", f"{ours}.blocks.{{i}}", reduced=reduction > 1)),
            *norm(f"encoder.layer_norm.{stage}", f"{ours}.norm"),
        ]
    return rules


def block_rules(theirs: str, ours: str, *, reduced: bool) -> list[Rule]:
    attention = f"{ours}.attention.attention"
    reduction = (
        *linear(f"{theirs}.attention.self.sr", f"{ours}.attention.reduction.convolution"),
        *norm(f"{theirs}.attention.self.layer_norm", f"{ours}.attention.reduction.norm"),
    )
    return [
        *norm(f"{theirs}.layer_norm_1", f"{ours}.attention_norm"),
        *linear(f"{theirs}.attention.self.query", f"{attention}.query"),
        *linear(f"{theirs}.attention.self.key", f"{attention}.key"),
        *linear(f"{theirs}.attention.self.value", f"{attention}.value"),
        *linear(f"{theirs}.attention.output.dense", f"{attention}.output"),
        *(reduction if reduced else ()),
        *norm(f"{theirs}.layer_norm_2", f"{ours}.mlp_norm"),
        *linear(f"{theirs}.mlp.dense1", f"{ours}.mlp.up"),
        *linear(f"{theirs}.mlp.dwconv.dwconv", f"{ours}.mlp.depthwise"),
        *linear(f"{theirs}.mlp.dense2", f"{ours}.mlp.down"),
    ]


class StageCount:
    """The number of stages, which must be that of the depths."""

    keys = ("num_encoder_blocks",)

    def read(self, published: Mapping[str, Any]) -> Fields:
        count, depths = published.get("num_encoder_blocks", 4), published["depths"]
        if count != len(depths):
            raise LayoutError(f"config.json has num_encoder_blocks: {count}, and depths of {len(depths)}\nfetch it again")
        return {}

    def write(self, config: Any) -> Fields:
        return {"num_encoder_blocks": len(config.depths)}


class HeadConfig(TransformersConfig):
    """A config.json of one of SegFormer's classes, which share a model_type."""

    def __init__(self, head: str, *parts: Any, ignored: frozenset[str] = frozenset(), **translated: Any):
        super().__init__(
            "segformer",
            depths="depths",
            widths="hidden_sizes",
            heads="num_attention_heads",
            reductions="sr_ratios",
            expansions="mlp_ratios",
            patches="patch_sizes",
            strides="strides",
            in_channels="num_channels",
            drop_path="drop_path_rate",
            parts=(StageCount(), Classes(), *parts),
            fixed={"hidden_act": "gelu"},
            # transformers has it among its settings and computes with 1e-5; what older releases noted down; other dropout.
            ignored=frozenset({"layer_norm_eps", "image_size", "downsampling_rates", "semantic_loss_ignore_index"})
            | {"hidden_dropout_prob", "attention_probs_dropout_prob"}
            | ignored,
            writes={"architectures": [head]},
            **translated,
        )
        self.head = head

    def recognises(self, published: Mapping[str, Any]) -> bool:
        return super().recognises(published) and published.get("architectures") == [self.head]


CONFIG = HeadConfig(
    "SegformerForSemanticSegmentation",
    OneOf("reshape_last_stage", True),
    decoder_width="decoder_hidden_size",
    dropout="classifier_dropout_prob",
)
MIT_CONFIG = HeadConfig(
    "SegformerForImageClassification",
    OneOf("reshape_last_stage", True, False),  # the mean over all places is the same
    ignored=frozenset({"decoder_hidden_size", "classifier_dropout_prob"}),
)


def folder(task: str) -> ProcessorFolder:
    return ProcessorFolder(
        task=task,
        processor="SegformerImageProcessor",
        fit="squash",
        defaults={
            "size": {"height": 512, "width": 512},
            "resample": RESAMPLING["bilinear"],
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    )


FOLDER, MIT_FOLDER = folder("image-segmentation"), folder("image-classification")
