"""Whisper's layouts: the names of tensors in transformers, in OpenAI's own files and in CTranslate2's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.keymap import Rule, Tensors, each, ignored, linear, norm, prefixed, same, tied
from bestiary.core.operations import split
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.audio.whisper import WhisperConfig

PARTS = ("query", "key", "value", "output")


def sinusoids(positions: int, width: int) -> Tensor:
    """Sines, then cosines, of angles that grow with the position, each slower than the one before: (positions, width), fp32.

    The frequencies fall from 1 to 1/10000 (Vaswani et al. 2017, arXiv:1706.03762, section 3.5, laid out by halves).
    """
    steps = -numpy.log(10000) / (width // 2 - 1)
    angles = torch.arange(positions)[:, None] * torch.exp(steps * torch.arange(width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass(frozen=True)
class Sinusoidal:
    """Positions of the encoder, which the formula gives where a file has none."""

    positions: int
    width: int

    def load(self, theirs: Tensors) -> Tensors:
        return theirs or (sinusoids(self.positions, self.width),)

    def save(self, ours: Tensors) -> Tensors:
        return ours


def sinusoidal(theirs: str, config: WhisperConfig) -> Rule:
    return Rule(((theirs,), ()), ("encoder.positions.weight",), Sinusoidal(config.frames, config.width))


def transformers_layout(config: WhisperConfig) -> list[Rule]:
    positions = same("decoder.embed_positions.weight", "decoder.positions.weight")
    embedding = ("model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight", "proj_out.weight")
    names = dict(zip(PARTS, ("q_proj", "k_proj", "v_proj", "out_proj"), strict=True))
    rules = [*linear("encoder.conv1", "encoder.conv1"), *linear("encoder.conv2", "encoder.conv2"), positions]
    for name, layers in stacks(config):
        theirs, ours = f"{name}.layers.{{i}}", f"{name}.blocks.{{i}}"
        rules += each(
            layers,
            *norm(f"{theirs}.self_attn_layer_norm", f"{ours}.attention_norm"),
            *attention(f"{theirs}.self_attn", f"{ours}.attention", names),
            *norm(f"{theirs}.final_layer_norm", f"{ours}.mlp_norm"),
            *linear(f"{theirs}.fc1", f"{ours}.mlp.up"),
            *linear(f"{theirs}.fc2", f"{ours}.mlp.down"),
        )
        rules += norm(f"{name}.layer_norm", f"{name}.norm")
    theirs, ours = "decoder.layers.{i}.encoder_attn", "decoder.blocks.{i}.cross_attention"
    rules += each(config.decoder_layers, *norm(f"{theirs}_layer_norm", f"{ours}_norm"), *attention(theirs, ours, names))
    rules.append(sinusoidal("encoder.embed_positions.weight", config))
    return [tied(embedding, "decoder.embedding.weight"), *prefixed(("model.", ""), rules)]


def openai_layout(config: WhisperConfig) -> list[Rule]:
    """The state dict of a `.pt`; the sizes lie in a dict beside it, as `dims`."""
    names = dict(zip(PARTS, ("query", "key", "value", "out"), strict=True))
    rules = [
        *linear("encoder.conv1", "encoder.conv1"),
        *linear("encoder.conv2", "encoder.conv2"),
        sinusoidal("encoder.positional_embedding", config),
        *norm("encoder.ln_post", "encoder.norm"),
        same("decoder.token_embedding.weight", "decoder.embedding.weight"),
        same("decoder.positional_embedding", "decoder.positions.weight"),
        *norm("decoder.ln", "decoder.norm"),
    ]
    for name, layers in stacks(config):
        blocks = f"{name}.blocks.{{i}}"
        rules += each(
            layers,
            *norm(f"{blocks}.attn_ln", f"{blocks}.attention_norm"),
            *attention(f"{blocks}.attn", f"{blocks}.attention", names),
            *norm(f"{blocks}.mlp_ln", f"{blocks}.mlp_norm"),
            *linear(f"{blocks}.mlp.0", f"{blocks}.mlp.up"),
            *linear(f"{blocks}.mlp.2", f"{blocks}.mlp.down"),
        )
    theirs, ours = "decoder.blocks.{i}.cross_attn", "decoder.blocks.{i}.cross_attention"
    rules += each(config.decoder_layers, *norm(f"{theirs}_ln", f"{ours}_norm"), *attention(theirs, ours, names))
    return rules


def stacks(config: WhisperConfig) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("encoder", config.layers), ("decoder", config.decoder_layers)


def attention(theirs: str, ours: str, names: Mapping[str, str]) -> Iterator[Rule]:
    """The four projections, of which that to the keys has no bias; `names` gives theirs for ours."""
    for our, their in names.items():
        weight, bias = linear(f"{theirs}.{their}", f"{ours}.{our}")
        yield from (weight,) if our == "key" else (weight, bias)


@dataclass(frozen=True)
class WithoutKey:
    """Biases of projections end to end, of which that to the keys, at the place `key`, is zeros, and ours has none."""

    parts: int
    key: int

    def load(self, theirs: Tensors) -> Tensors:
        (fused,) = theirs
        biases = list(fused.tensor_split(self.parts)) if fused.dim() else []
        if not biases or biases.pop(self.key).any():
            raise LayoutError("a bias of the keys, where Whisper has none\ndoes the file hold a Whisper?")
        return tuple(biases)

    def save(self, ours: Tensors) -> Tensors:
        biases = list(ours)
        biases.insert(self.key, torch.zeros_like(ours[0]))
        return (torch.cat(biases),)


def ctranslate2_layout(config: WhisperConfig) -> list[Rule]:
    """The variables of a `model.bin`. Its settings, such as the number of heads, are the config's."""
    rules = [
        *linear_of("encoder/conv1", "encoder.conv1"),
        *linear_of("encoder/conv2", "encoder.conv2"),
        sinusoidal("encoder/position_encodings/encodings", config),
        tied(("decoder/embeddings/weight", "decoder/projection/weight"), "decoder.embedding.weight"),
        same("decoder/position_encodings/encodings", "decoder.positions.weight"),
    ]
    for name, layers in stacks(config):
        theirs, ours = f"{name}/layer_{{i}}", f"{name}.blocks.{{i}}"
        rules += each(
            layers,
            *norm_of(f"{theirs}/self_attention/layer_norm", f"{ours}.attention_norm"),
            *joint(f"{theirs}/self_attention/linear_0", f"{ours}.attention", ("query", "key", "value")),
            *linear_of(f"{theirs}/self_attention/linear_1", f"{ours}.attention.output"),
            *norm_of(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_norm"),
            *linear_of(f"{theirs}/ffn/linear_0", f"{ours}.mlp.up"),
            *linear_of(f"{theirs}/ffn/linear_1", f"{ours}.mlp.down"),
        )
        rules += norm_of(f"{name}/layer_norm", f"{name}.norm")
    theirs, ours = "decoder/layer_{i}/attention", "decoder.blocks.{i}.cross_attention"
    rules += each(
        config.decoder_layers,
        *norm_of(f"{theirs}/layer_norm", f"{ours}_norm"),
        *linear_of(f"{theirs}/linear_0", f"{ours}.query"),
        *joint(f"{theirs}/linear_1", ours, ("key", "value")),
        *linear_of(f"{theirs}/linear_2", f"{ours}.output"),
    )
    return [*rules, *ignored(*(f"{name}/{setting}" for name, _ in stacks(config) for setting in SETTINGS))]


SETTINGS = (
    "activation", "alibi", "alibi_use_positive_positions", "alignment_heads", "alignment_layer", "num_heads", "pre_norm",
    "scale_alibi", "scale_embeddings", "start_from_zero_embedding",
)  # fmt: skip


def linear_of(theirs: str, ours: str) -> tuple[Rule, Rule]:
    return same(f"{theirs}/weight", f"{ours}.weight"), same(f"{theirs}/bias", f"{ours}.bias")


def norm_of(theirs: str, ours: str) -> tuple[Rule, Rule]:
    return same(f"{theirs}/gamma", f"{ours}.weight"), same(f"{theirs}/beta", f"{ours}.bias")


def joint(theirs: str, ours: str, parts: tuple[str, ...]) -> tuple[Rule, Rule]:
    """Projections that are one in the file, end to end."""
    biases = tuple(f"{ours}.{part}.bias" for part in parts if part != "key")
    weight = split(f"{theirs}/weight", *(f"{ours}.{part}.weight" for part in parts))
    return weight, Rule(((f"{theirs}/bias",),), biases, WithoutKey(len(parts), parts.index("key")))


class Alike:
    """A size of encoder and decoder, which have it in common."""

    def __init__(self, field: str, key: str):
        self.field = field
        self.keys = (f"encoder_{key}", f"decoder_{key}")

    def read(self, published: Mapping[str, Any]) -> Fields:
        encoder, decoder = (published[key] for key in self.keys)
        if encoder != decoder:
            raise LayoutError(
                f"config.json says {self.keys[0]}: {encoder!r}, {self.keys[1]}: {decoder!r}\n"
                "every published Whisper has the same in both; this variant is not in the zoo"
            )
        return {self.field: encoder}

    def write(self, config: Any) -> Fields:
        return dict.fromkeys(self.keys, getattr(config, self.field))


TRANSFORMERS_CONFIG = TransformersConfig(
    "whisper",
    layers="encoder_layers",
    decoder_layers="decoder_layers",
    width="d_model",
    vocabulary="vocab_size",
    mels="num_mel_bins",
    frames="max_source_positions",
    context="max_target_positions",
    parts=(Alike("heads", "attention_heads"), Alike("hidden", "ffn_dim")),
    fixed={
        "activation_function": "gelu",
        "is_encoder_decoder": True,
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "use_weighted_layer_sum": False,
    },
    ignored=frozenset(
        {"num_hidden_layers", "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop"}
        | {"init_std", "apply_spec_augment", "classifier_proj_size", "median_filter_width", "max_length"}
        | {"begin_suppress_tokens", "suppress_tokens", "forced_decoder_ids"}
        | {f"mask_{kind}_{what}" for kind in ("time", "feature") for what in ("prob", "length", "min_masks")}
    ),
    writes={"architectures": ["WhisperForConditionalGeneration"]},
)
