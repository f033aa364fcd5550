"""Qwen2 and Qwen3: Llama with a bias on queries, keys and values, or with a norm of queries and keys in its place.

Qwen2 is of 2024 (arXiv:2407.10671) and Qwen2.5 is built the same; Qwen3 is of 2025 (arXiv:2505.09388).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.configparts import GLOBAL, LOCAL, Constant, Heads, Rotary, Windows
from bestiary.text.llama import IGNORED, TRANSLATED, decoder


def _types(published: Mapping[str, Any]) -> list[str]:
    """Of the layers: a window in those from `max_window_layers` on, if there is one."""
    layers, window = published["num_hidden_layers"], published["sliding_window"]
    return [LOCAL if window is not None and layer >= published["max_window_layers"] else GLOBAL for layer in range(layers)]


class SwitchedWindows(Windows):
    """Windows that are there only if `use_sliding_window` says so, which in the published files it does not."""

    def read(self, published: Mapping[str, Any]) -> Fields:
        window = published["sliding_window"] if published["use_sliding_window"] else None
        return super().read({**published, "sliding_window": window})

    def write(self, config: Any) -> Fields:
        written = super().write(config)
        return {**written, "use_sliding_window": written["sliding_window"] is not None}


WINDOWS = SwitchedWindows(_types, "use_sliding_window", "max_window_layers")
DEFAULTS = {
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "max_window_layers": 28,
}

QWEN2_CONFIG = TransformersConfig(
    "qwen2",
    parts=(Heads(), Rotary(), WINDOWS, Constant(qkv_bias=True)),
    defaults=DEFAULTS,
    fixed={"hidden_act": "silu"},
    ignored=IGNORED,
    writes={"architectures": ["Qwen2ForCausalLM"]},
    **TRANSLATED,
)
QWEN3_CONFIG = TransformersConfig(
    "qwen3",
    parts=(Heads(), Rotary(), WINDOWS, Constant(query_key_norm=True)),
    defaults={**DEFAULTS, "head_dim": 128},
    fixed={"hidden_act": "silu", "attention_bias": False},
    ignored=IGNORED,
    writes={"architectures": ["Qwen3ForCausalLM"]},
    **TRANSLATED,
)

QWEN2 = decoder("qwen2", QWEN2_CONFIG)
QWEN3 = decoder("qwen3", QWEN3_CONFIG)
