"""Gemma 1, 2 and 3, of text alone: Llama with scaled embeddings, a gate of GELU and norms that store their distance from 1.

Gemma (arXiv:2403.08295) is that; Gemma 2 (arXiv:2408.00118) caps scores and logits, norms after attention and MLP too, and
looks near and far in turn; Gemma 3 (arXiv:2503.19786) norms queries and keys in place of the caps and looks far in every sixth
layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.configparts import GLOBAL, LOCAL, Constant, Heads, OneOf, Rotary, RotaryByLayer, Windows
from bestiary.core.keymap import Rule
from bestiary.core.operations import shifted
from bestiary.text.llama import IGNORED, TRANSLATED, LlamaConfig, decoder, gguf_layout


def gemma_gguf_layout(config: LlamaConfig) -> list[Rule]:
    return gguf_layout(config, norm=partial(shifted, amount=1))  # the whole weight of a norm, not its distance from 1


class EmbeddingScale:
    """The square root of the width, which no file says."""

    keys = ()

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {"embedding_scale": published["hidden_size"] ** 0.5}

    def write(self, config: Any) -> Fields:
        return {}


def _alternating(published: Mapping[str, Any]) -> list[str]:
    return _periodic(published, 2)


def _far_at_last(published: Mapping[str, Any]) -> list[str]:
    return _periodic(published, published.get("sliding_window_pattern") or published.get("_sliding_window_pattern") or 6)


def _periodic(published: Mapping[str, Any], period: int) -> list[str]:
    """Types of the layers, of which the last of every period sees all."""
    return [LOCAL if layer % period else GLOBAL for layer in range(1, published["num_hidden_layers"] + 1)]


COMMON = (
    Heads(),
    EmbeddingScale(),
    Constant(norm="rms_offset", activation="gelu_tanh"),
    # The first files say "gelu" and mean its approximation by tanh, with which they were trained.
    OneOf("hidden_act", "gelu_pytorch_tanh", "gelu", None),
    OneOf("hidden_activation", "gelu_pytorch_tanh", None),
)
DEFAULTS = {"head_dim": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True}
FIXED = {"attention_bias": False, "use_bidirectional_attention": False}

GEMMA_CONFIG = TransformersConfig(
    "gemma",
    parts=(*COMMON, Rotary()),
    defaults={**DEFAULTS, "num_key_value_heads": 16, "max_position_embeddings": 8192},
    fixed=FIXED,
    ignored=IGNORED,
    writes={"architectures": ["GemmaForCausalLM"]},
    **TRANSLATED,
)
GEMMA2_CONFIG = TransformersConfig(
    "gemma2",
    parts=(*COMMON, Rotary(), Windows(_alternating), Constant(order="sandwich")),
    defaults={
        **DEFAULTS,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    fixed=FIXED,
    ignored=IGNORED | {"sliding_window_size"},  # a second word for sliding_window, which nothing reads
    writes={"architectures": ["Gemma2ForCausalLM"]},
    query_scalar="query_pre_attn_scalar",
    softcap="attn_logit_softcapping",
    logits_softcap="final_logit_softcapping",
    **TRANSLATED,
)
GEMMA3_CONFIG = TransformersConfig(
    "gemma3_text",
    parts=(
        *COMMON,
        RotaryByLayer(),
        Windows(_far_at_last, "sliding_window_pattern", "_sliding_window_pattern"),
        Constant(order="sandwich", query_key_norm=True),
    ),
    defaults={
        **DEFAULTS,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
    },
    fixed={**FIXED, "attn_logit_softcapping": None},
    ignored=IGNORED,
    writes={"architectures": ["Gemma3ForCausalLM"]},
    query_scalar="query_pre_attn_scalar",
    logits_softcap="final_logit_softcapping",
    **TRANSLATED,
)

GEMMA = decoder("gemma", GEMMA_CONFIG, gemma_gguf_layout)
GEMMA2 = decoder("gemma2", GEMMA2_CONFIG, gemma_gguf_layout)
GEMMA3 = decoder("gemma3", GEMMA3_CONFIG, gemma_gguf_layout)
