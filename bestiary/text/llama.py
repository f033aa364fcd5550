"""Llama and those built like it: causal decoders of text with rotary positions and gated MLPs.

Llama (Touvron et al. 2023, arXiv:2302.13971), SmolLM2, Mistral, Qwen2, Qwen3 and Gemma are one net; its config says how they
differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Literal

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec, Stack
from bestiary.core.configmap import TransformersConfig
from bestiary.core.configparts import Heads, Rotary
from bestiary.core.context import Mask, look
from bestiary.core.keymap import Rule, each, ignored, same
from bestiary.core.layers import MlpSpec, NormSpec, ScaledEmbedding, Softcap, TiedHead
from bestiary.core.rotary import Linear, Llama3, RotarySpec, Yarn


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    layers: int  # number of blocks
    width: int  # size of a hidden state
    heads: int  # attention heads of a block
    key_value_heads: int  # heads of keys and values, a divisor of heads
    head_width: int  # size of a head
    hidden: int  # width of the MLP
    vocabulary: int  # number of token ids
    positions: int  # longest sequence
    theta: float  # base of the rotary angles
    eps: float  # of every norm
    scaling: Linear | Llama3 | Yarn | None = None  # of the rotary angles
    tied: bool = False  # whether the embedding is the head too
    qkv_bias: bool = False  # whether the projections of queries, keys and values have a bias
    query_key_norm: bool = False  # whether queries and keys are normalised, each head by itself
    windows: tuple[int | None, ...] = (None,)  # largest distance seen, layer by layer, repeated to the last; None sees all
    local_theta: float | None = None  # base of the angles where there is a window, unscaled; as everywhere if None
    norm: Literal["rms", "rms_offset"] = "rms"
    order: Literal["pre", "sandwich"] = "pre"
    activation: str = "silu"  # of the gate
    embedding_scale: float | None = None  # what embeddings are multiplied by, if by anything
    query_scalar: float | None = None  # scores are divided by its square root; head_width if None
    softcap: float | None = None  # of the scores: s becomes softcap · tanh(s / softcap)
    logits_softcap: float | None = None  # the same of the logits

    def __post_init__(self) -> None:
        # The shortest pattern is kept, so that configs of equal nets are equal.
        windows = list(islice(cycle(self.windows), self.layers))
        period = next((n for n in range(1, self.layers) if windows[n:] == windows[:-n]), self.layers)
        object.__setattr__(self, "windows", tuple(windows[:period]))


class Llama(nn.Module):
    """The decoder: token ids in, logits of the next token out.

    >>> import torch
    >>> config = LlamaConfig(layers=2, width=32, heads=4, key_value_heads=2, head_width=8, hidden=64, vocabulary=100,
    ...                      positions=16, theta=10000.0, eps=1e-5)
    >>> Llama(config)(torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 100])
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        embedding = nn.Embedding if config.embedding_scale is None else partial(ScaledEmbedding, scale=config.embedding_scale)
        self.embedding = embedding(config.vocabulary, config.width)
        windows = islice(cycle(config.windows), config.layers)
        self.blocks = Stack(block(config, window).build() for window in windows)
        self.norm = NormSpec(kind=config.norm, eps=config.eps).build(config.width)
        head = TiedHead(self.embedding) if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        self.head = head if config.logits_softcap is None else nn.Sequential(head, Softcap(config.logits_softcap))

    def forward(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (..., vocabulary) of what follows each of the token ids (...).

        The ids come as (batch, length) with a padding mask of that shape (True where a token is), as packed rows (rows,)
        with a ragged mask, or with the context of a cache.
        """
        return self.head(self.hidden_states(tokens, mask, positions))

    def hidden_states(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """What the head makes logits of: (..., width)."""
        context = look(mask, tokens, positions, causal=True)
        x = self.embedding(tokens)  # (..., width)
        x = self.blocks(x, context)
        return self.norm(x)


def block(config: LlamaConfig, window: int | None) -> BlockSpec:
    """A block whose attention sees as far as the window."""
    norm = NormSpec(kind=config.norm, eps=config.eps)
    head_norm = norm if config.query_key_norm else None
    rotary = RotarySpec(width=config.head_width, theta=config.theta, scaling=config.scaling)
    local_rotary = rotary if config.local_theta is None else RotarySpec(width=config.head_width, theta=config.local_theta)
    attention = AttentionSpec(
        width=config.width,
        heads=config.heads,
        key_value_heads=config.key_value_heads,
        head_width=config.head_width,
        query_bias=config.qkv_bias,
        key_bias=config.qkv_bias,
        value_bias=config.qkv_bias,
        output_bias=False,
        query_norm=head_norm,
        key_norm=head_norm,
        rotary=rotary if window is None else local_rotary,
        scale=None if config.query_scalar is None else config.query_scalar**-0.5,
        window=window,
        softcap=config.softcap,
    )
    mlp = MlpSpec(width=config.width, hidden=config.hidden, activation=config.activation, kind="gated", bias=False)
    return BlockSpec(attention=attention, mlp=mlp, norm=norm, order=config.order)


def transformers_layout(config: LlamaConfig) -> list[Rule]:
    names = {
        "input_layernorm.weight": "attention_norm.weight",
        "self_attn.q_proj.weight": "attention.query.weight",
        "self_attn.k_proj.weight": "attention.key.weight",
        "self_attn.v_proj.weight": "attention.value.weight",
        "self_attn.o_proj.weight": "attention.output.weight",
        "mlp.gate_proj.weight": "mlp.gate.weight",
        "mlp.up_proj.weight": "mlp.up.weight",
        "mlp.down_proj.weight": "mlp.down.weight",
    }
    if config.order == "pre":
        names["post_attention_layernorm.weight"] = "mlp_norm.weight"
    else:
        names["post_attention_layernorm.weight"] = "attention_out_norm.weight"
        names["pre_feedforward_layernorm.weight"] = "mlp_norm.weight"
        names["post_feedforward_layernorm.weight"] = "mlp_out_norm.weight"
    if config.qkv_bias:
        names["self_attn.q_proj.bias"] = "attention.query.bias"
        names["self_attn.k_proj.bias"] = "attention.key.bias"
        names["self_attn.v_proj.bias"] = "attention.value.bias"
    if config.query_key_norm:
        names["self_attn.q_norm.weight"] = "attention.query_norm.weight"
        names["self_attn.k_norm.weight"] = "attention.key_norm.weight"
    return [
        same("model.embed_tokens.weight", "embedding.weight"),
        *each(config.layers, *(same(f"model.layers.{{i}}.{theirs}", f"blocks.{{i}}.{ours}") for theirs, ours in names.items())),
        same("model.norm.weight", "norm.weight"),
        *(ignored("lm_head.weight") if config.tied else [same("lm_head.weight", "head.weight")]),
        *each(config.layers, *ignored("model.layers.{i}.self_attn.rotary_emb.inv_freq")),  # in files of 2023
    ]


# What does not change what a net computes: dropout, the order in which products are summed, hints to other programs.
IGNORED = frozenset({"attention_dropout", "pretraining_tp", "cache_implementation", "transformers.js_config"})

LLAMA_CONFIG = TransformersConfig(
    "llama",
    layers="num_hidden_layers",
    width="hidden_size",
    hidden="intermediate_size",
    vocabulary="vocab_size",
    positions="max_position_embeddings",
    eps="rms_norm_eps",
    tied="tie_word_embeddings",
    parts=(Heads(), Rotary()),
    defaults={"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0},
    fixed={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    ignored=IGNORED | {"rope_interleaved", "is_llama_config"},
    writes={"architectures": ["LlamaForCausalLM"]},
)

ARCHITECTURE = Architecture(
    name="llama",
    config=LlamaConfig,
    net=Llama,
    layouts={"transformers": transformers_layout},
    configs={"transformers": LLAMA_CONFIG},
)
