"""T5's layout in transformers: names of tensors, and the config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.keymap import Rule, each, ignored, same, tied
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.text.t5 import T5Config


def transformers_layout(config: T5Config) -> list[Rule]:
    embeddings = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    head = () if config.tied else (same("lm_head.weight", "decoder.head.weight"),)
    return [
        tied((*embeddings, "lm_head.weight") if config.tied else embeddings, "encoder.embedding.weight"),
        *head,
        *stack("encoder", config.layers, config),
        *stack("decoder", config.decoder_layers, config),
        *each(
            config.decoder_layers,
            *attention("decoder.block.{i}.layer.1.EncDecAttention", "decoder.blocks.{i}.cross_attention"),
            same("decoder.block.{i}.layer.1.layer_norm.weight", "decoder.blocks.{i}.cross_attention_norm.weight"),
        ),
        *ignored("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"),  # never used
    ]


def stack(name: str, layers: int, config: T5Config) -> Iterator[Rule]:
    """What encoder and decoder have in common."""
    theirs, ours = f"{name}.block.{{i}}.layer", f"{name}.blocks.{{i}}"
    mlp = f"{theirs}.1" if name == "encoder" else f"{theirs}.2"
    names = {"plain": {"wi": "up"}, "gated": {"wi_0": "gate", "wi_1": "up"}}[config.mlp] | {"wo": "down"}
    yield same(f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{name}.bias.heads.weight")
    yield from each(
        layers,
        same(f"{theirs}.0.layer_norm.weight", f"{ours}.attention_norm.weight"),
        *attention(f"{theirs}.0.SelfAttention", f"{ours}.attention"),
        same(f"{mlp}.layer_norm.weight", f"{ours}.mlp_norm.weight"),
        *(same(f"{mlp}.DenseReluDense.{their}.weight", f"{ours}.mlp.{our}.weight") for their, our in names.items()),
    )
    yield same(f"{name}.final_layer_norm.weight", f"{name}.norm.weight")


def attention(theirs: str, ours: str) -> Iterator[Rule]:
    for their, our in {"q": "query", "k": "key", "v": "value", "o": "output"}.items():
        yield same(f"{theirs}.{their}.weight", f"{ours}.{our}.weight")


class FeedForward:
    """`feed_forward_proj`, which newer files say a second time in two more keys."""

    keys = ("feed_forward_proj", "dense_act_fn", "is_gated_act")
    kinds: Mapping[str, tuple[str, str, str]] = {  # our kind of MLP, our activation, theirs
        "relu": ("plain", "relu", "relu"),
        "gated-gelu": ("gated", "gelu_tanh", "gelu_new"),  # whatever the name says
        "gated-silu": ("gated", "silu", "silu"),
    }

    def read(self, published: Mapping[str, Any]) -> Fields:
        name = published.get("feed_forward_proj", "relu")
        if name not in self.kinds:
            raise LayoutError(
                f"config.json says feed_forward_proj: {name!r}\nthe zoo computes t5 with one of {', '.join(self.kinds)}"
            )
        mlp, activation, theirs = self.kinds[name]
        for key, value in {"dense_act_fn": theirs, "is_gated_act": mlp == "gated"}.items():
            if published.get(key, value) != value:
                raise LayoutError(
                    f"config.json says {key}: {published[key]!r}\nwanted: {value!r}, as it says feed_forward_proj: {name!r}"
                )
        return {"mlp": mlp, "activation": activation}

    def write(self, config: Any) -> Fields:
        kind = (config.mlp, config.activation)
        names = [name for name, (*ours, _) in self.kinds.items() if tuple(ours) == kind]
        if not names:
            raise LayoutError(
                f"a config.json of t5 cannot say a {config.mlp} MLP with {config.activation}\nit can say {', '.join(self.kinds)}"
            )
        return {"feed_forward_proj": names[0]}


class Head:
    """`tie_word_embeddings`; newer files always claim to tie, and tell the two kinds apart by `scale_decoder_outputs`."""

    keys = ("tie_word_embeddings", "scale_decoder_outputs")

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {"tied": published.get("scale_decoder_outputs", published.get("tie_word_embeddings", True))}

    def write(self, config: Any) -> Fields:
        return dict.fromkeys(self.keys, config.tied)


class DecoderLayers:
    """`num_decoder_layers`, as many as in the encoder where the file does not say."""

    keys = ("num_decoder_layers",)

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {"decoder_layers": published.get("num_decoder_layers") or published["num_layers"]}

    def write(self, config: Any) -> Fields:
        return {"num_decoder_layers": config.decoder_layers}


TRANSFORMERS_CONFIG = TransformersConfig(
    "t5",
    layers="num_layers",
    width="d_model",
    heads="num_heads",
    head_width="d_kv",
    hidden="d_ff",
    vocabulary="vocab_size",
    buckets="relative_attention_num_buckets",
    furthest="relative_attention_max_distance",
    eps="layer_norm_epsilon",
    parts=(FeedForward(), Head(), DecoderLayers()),
    fixed={"is_encoder_decoder": True, "is_decoder": False},
    ignored=frozenset({"dropout_rate", "classifier_dropout", "initializer_factor", "n_positions", "output_past"}),
    writes={"architectures": ["T5ForConditionalGeneration"]},
)
