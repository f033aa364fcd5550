"""How transformers publishes wav2vec 2.0 and HuBERT: names of tensors, and the config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bestiary.core.configmap import Fields, Part, TransformersConfig
from bestiary.core.configparts import Activation, Constant
from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.audio.wav2vec2 import Wav2Vec2Config


def transformers_layout(config: Wav2Vec2Config, name: str) -> list[Rule]:
    """The key map; `name` is what stands before the net's keys where a head stands beside it."""
    prefixes = (f"{name}.", "") if config.num_classes else ("", f"{name}.")
    pretraining = ("quantizer.weight_proj", "project_hid", "project_q")
    return [
        *prefixed(prefixes, [*stem(config), *encoder(config), *ignored("masked_spec_embed")]),
        *(linear("lm_head", "head") if config.num_classes else ignored("lm_head.weight", "lm_head.bias")),
        *ignored("quantizer.codevectors", *(f"{part}.{kind}" for part in pretraining for kind in ("weight", "bias"))),
    ]


def stem(config: Wav2Vec2Config) -> list[Rule]:
    count = len(config.stem_widths)
    theirs, ours = "feature_extractor.conv_layers.{i}", "stem.layers.{i}"
    return [
        *each(
            count,
            same(f"{theirs}.conv.weight", f"{ours}.convolution.weight"),
            *([same(f"{theirs}.conv.bias", f"{ours}.convolution.bias")] if config.stem_bias else []),
        ),
        *each(1 if config.stem_norm == "group" else count, *norm(f"{theirs}.layer_norm", f"{ours}.norm")),
        *(norm("feature_projection.layer_norm", "projection.norm") if config.projection_norm == "layer" else ()),
        *linear("feature_projection.projection", "projection.dense"),
    ]


def encoder(config: Wav2Vec2Config) -> list[Rule]:
    positions = "encoder.pos_conv_embed.conv"
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    return [
        same((f"{positions}.parametrizations.weight.original0", f"{positions}.weight_g"), "positions.scale"),
        same((f"{positions}.parametrizations.weight.original1", f"{positions}.weight_v"), "positions.direction"),
        same(f"{positions}.bias", "positions.bias"),
        *norm("encoder.layer_norm", "position_norm" if config.order == "post" else "norm"),
        *each(
            config.layers,
            *(
                rule
                for their, our in names.items()
                for rule in linear(f"encoder.layers.{{i}}.attention.{their}", f"blocks.{{i}}.attention.{our}")
            ),
            *norm("encoder.layers.{i}.layer_norm", "blocks.{i}.attention_norm"),
            *linear("encoder.layers.{i}.feed_forward.intermediate_dense", "blocks.{i}.mlp.up"),
            *linear("encoder.layers.{i}.feed_forward.output_dense", "blocks.{i}.mlp.down"),
            *norm("encoder.layers.{i}.final_layer_norm", "blocks.{i}.mlp_norm"),
        ),
    ]


class Letters:
    """The class that a config.json was saved by, which says whether there is a head, and the size of that."""

    keys = ("architectures", "vocab_size")

    def __init__(self, name: str):
        self.name = name  # what the names of the architecture's classes begin with
        self.with_letters = {f"{name}Model": False, f"{name}ForPreTraining": False, f"{name}ForCTC": True}

    def read(self, published: Mapping[str, Any]) -> Fields:
        names = published.get("architectures") or [f"{self.name}Model"]
        if len(names) != 1 or names[0] not in self.with_letters:
            known = ", ".join(self.with_letters)
            raise LayoutError(f"config.json has architectures: {names!r}\nthe zoo computes one of {known}")
        return {"num_classes": published["vocab_size"] if self.with_letters[names[0]] else 0}

    def write(self, config: Any) -> Fields:
        if not config.num_classes:
            return {"architectures": [f"{self.name}Model"]}
        return {"architectures": [f"{self.name}ForCTC"], "vocab_size": config.num_classes}


class Either:
    """A key with one of two values, each of which stands for a value of a field of ours."""

    def __init__(self, field: str, key: str, values: Mapping[Any, Any]):
        self.field = field
        self.keys = (key,)
        self.values = values  # theirs → ours

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {self.field: self.values[bool(published[self.keys[0]])]}

    def write(self, config: Any) -> Fields:
        ours = getattr(config, self.field)
        return {self.keys[0]: next(theirs for theirs, value in self.values.items() if value == ours)}


class Repeated:
    """What some files say a second time, in keys of their own: the number of convolutions, and the width."""

    keys = ("num_feat_extract_layers", "output_hidden_size")

    def read(self, published: Mapping[str, Any]) -> Fields:
        for key, value in zip(self.keys, (len(published["conv_dim"]), published["hidden_size"]), strict=True):
            if published.get(key) not in (None, value):
                raise LayoutError(
                    f"config.json says {key}: {published[key]!r}\nwanted: {value!r}, as the rest says; fetch the file again"
                )
        return {}

    def write(self, config: Any) -> Fields:
        return {}


# What matters to training alone: dropout, hidden frames, contrastive and CTC loss; and heads that the zoo does not compute.
# fmt: off
TRAINING = frozenset([
    "activation_dropout", "attention_dropout", "hidden_dropout", "hidden_dropout_prob", "feat_proj_dropout",
    "feat_extract_dropout", "feat_quantizer_dropout", "final_dropout", "layerdrop", "freeze_feat_extract_train",
    "apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_time_min_space",
    "mask_time_other", "mask_time_selection", "no_mask_time_overlap", "mask_feature_prob", "mask_feature_length",
    "mask_feature_min_masks", "mask_channel_prob", "mask_channel_length", "mask_channel_min_space", "mask_channel_other",
    "mask_channel_selection", "no_mask_channel_overlap", "ctc_loss_reduction", "ctc_zero_infinity",
    "num_codevectors_per_group", "num_codevector_groups", "contrastive_logits_temperature", "num_negatives",
    "codevector_dim", "proj_codevector_dim", "diversity_loss_weight", "use_weighted_layer_sum", "classifier_proj_size",
    "tdnn_dim", "tdnn_kernel", "tdnn_dilation", "xvector_output_dim", "adapter_kernel_size", "adapter_stride",
    "num_adapter_layers",
])
# fmt: on


def config_map(model_type: str, classes: str, *parts: Part, **fixed: Any) -> TransformersConfig:
    """What both have in common; `classes` is what the names of the classes begin with."""
    return TransformersConfig(
        model_type,
        layers="num_hidden_layers",
        width="hidden_size",
        heads="num_attention_heads",
        hidden="intermediate_size",
        eps="layer_norm_eps",
        stem_norm="feat_extract_norm",
        stem_widths="conv_dim",
        stem_kernels="conv_kernel",
        stem_strides="conv_stride",
        stem_bias="conv_bias",
        position_kernel="num_conv_pos_embeddings",
        position_groups="num_conv_pos_embedding_groups",
        parts=(
            Letters(classes),
            Either("order", "do_stable_layer_norm", {False: "post", True: "pre"}),
            Activation(),
            Activation("feat_extract_activation", "stem_activation"),
            Repeated(),
            *parts,
        ),
        defaults={
            "hidden_size": 768,
            "vocab_size": 32,
            "do_stable_layer_norm": False,
            "hidden_act": "gelu",
            "feat_extract_activation": "gelu",
            "conv_dim": (512,) * 7,
            "feat_proj_layer_norm": True,
        },
        fixed={"is_encoder_decoder": False, **fixed},
        ignored=TRAINING,
        # The vector that stands for hidden frames in training is not kept, so nothing is to be hidden.
        writes={"mask_time_prob": 0.0, "mask_feature_prob": 0.0},
    )


TRANSFORMERS_WAV2VEC2 = config_map(
    "wav2vec2", "Wav2Vec2", Constant(projection_norm="layer"), add_adapter=False, adapter_attn_dim=None
)
TRANSFORMERS_HUBERT = config_map(
    "hubert",
    "Hubert",
    Either("projection_norm", "feat_proj_layer_norm", {True: "layer", False: "none"}),
    conv_pos_batch_norm=False,
)
