"""Llama and those built like it: causal decoders of text with rotary positions and gated MLPs.

Llama (Touvron et al. 2023, arXiv:2302.13971), SmolLM2, Mistral, Qwen2, Qwen3 and Gemma are one net; its config says how they
differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Literal

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec, Stack
from bestiary.core.configmap import TransformersConfig
from bestiary.core.configparts import Heads, Rotary, Window
from bestiary.core.context import Mask, look
from bestiary.core.keymap import Rule, each, ignored, same, tied
from bestiary.core.layers import MlpSpec, NormSpec, ScaledEmbedding, Softcap, TiedHead
from bestiary.core.operations import interleaved
from bestiary.core.rotary import Linear, Llama3, RotarySpec, Yarn
from bestiary.text.published_decoder import TransformersDecoder

Renaming = Callable[[str, str], Rule]  # their name, our name → how one tensor becomes the other
Layout = Callable[["LlamaConfig"], list[Rule]]


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


def block_names(config: LlamaConfig) -> list[tuple[str, str, str]]:
    """What we, transformers and GGUF call the parts of a block."""
    names = [
        ("attention_norm.weight", "input_layernorm.weight", "attn_norm.weight"),
        ("attention.query.weight", "self_attn.q_proj.weight", "attn_q.weight"),
        ("attention.key.weight", "self_attn.k_proj.weight", "attn_k.weight"),
        ("attention.value.weight", "self_attn.v_proj.weight", "attn_v.weight"),
        ("attention.output.weight", "self_attn.o_proj.weight", "attn_output.weight"),
        ("mlp.gate.weight", "mlp.gate_proj.weight", "ffn_gate.weight"),
        ("mlp.up.weight", "mlp.up_proj.weight", "ffn_up.weight"),
        ("mlp.down.weight", "mlp.down_proj.weight", "ffn_down.weight"),
    ]
    if config.qkv_bias:
        names += [
            ("attention.query.bias", "self_attn.q_proj.bias", "attn_q.bias"),
            ("attention.key.bias", "self_attn.k_proj.bias", "attn_k.bias"),
            ("attention.value.bias", "self_attn.v_proj.bias", "attn_v.bias"),
        ]
    if config.query_key_norm:
        names += [
            ("attention.query_norm.weight", "self_attn.q_norm.weight", "attn_q_norm.weight"),
            ("attention.key_norm.weight", "self_attn.k_norm.weight", "attn_k_norm.weight"),
        ]
    if config.order == "pre":
        return [*names, ("mlp_norm.weight", "post_attention_layernorm.weight", "ffn_norm.weight")]
    return [
        *names,
        ("attention_out_norm.weight", "post_attention_layernorm.weight", "post_attention_norm.weight"),
        ("mlp_norm.weight", "pre_feedforward_layernorm.weight", "ffn_norm.weight"),
        ("mlp_out_norm.weight", "post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
    ]


def vocabulary_rules(config: LlamaConfig, embedding: str, head: str) -> list[Rule]:
    """The embedding and the head, which may be one."""
    if config.tied:
        return [tied((embedding, head), "embedding.weight")]
    return [same(embedding, "embedding.weight"), same(head, "head.weight")]


def transformers_layout(config: LlamaConfig) -> list[Rule]:
    block = (same(f"model.layers.{{i}}.{theirs}", f"blocks.{{i}}.{ours}") for ours, theirs, _ in block_names(config))
    return [
        *vocabulary_rules(config, "model.embed_tokens.weight", "lm_head.weight"),
        *each(config.layers, *block, *ignored("model.layers.{i}.self_attn.rotary_emb.inv_freq")),  # in files of 2023
        same("model.norm.weight", "norm.weight"),
    ]


def gguf_layout(config: LlamaConfig, norm: Renaming = same, query_key: Renaming = same) -> list[Rule]:
    """The names in GGUF; `norm` and `query_key` say how norms, and projections to queries and keys, lie in the file."""
    kinds = {"attention.query": query_key, "attention.key": query_key}
    block = (
        (norm if "norm" in ours else kinds.get(ours.rpartition(".")[0], same))(f"blk.{{i}}.{theirs}", f"blocks.{{i}}.{ours}")
        for ours, _, theirs in block_names(config)
    )
    return [
        *vocabulary_rules(config, "token_embd.weight", "output.weight"),
        *each(config.layers, *block),
        norm("output_norm.weight", "norm.weight"),
        *(ignored("rope_freqs.weight") if isinstance(config.scaling, Llama3) else ()),  # what the scaling makes of the angles
    ]


def interleaved_gguf_layout(config: LlamaConfig) -> list[Rule]:
    return gguf_layout(config, query_key=partial(interleaved, head_width=config.head_width))


# Keys of config.json with one meaning in every model of the family, and such as do not change what a net computes: dropout,
# the order in which products are summed, hints to other programs.
TRANSLATED = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "hidden": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}
IGNORED = frozenset({"attention_dropout", "pretraining_tp", "cache_implementation", "transformers.js_config"})

LLAMA_CONFIG = TransformersConfig(
    "llama",
    parts=(Heads(), Rotary()),
    defaults={"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0},
    fixed={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    ignored=IGNORED | {"rope_interleaved", "is_llama_config"},
    writes={"architectures": ["LlamaForCausalLM"]},
    **TRANSLATED,
)
MISTRAL_CONFIG = TransformersConfig(
    "mistral",
    parts=(Heads(), Rotary(), Window()),
    defaults={
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    },
    fixed={"hidden_act": "silu"},
    ignored=IGNORED,
    writes={"architectures": ["MistralForCausalLM"]},
    **TRANSLATED,
)


def decoder(name: str, config_map: TransformersConfig, gguf: Layout = gguf_layout) -> Architecture:
    """The entry of the table for one kind of model of the family."""
    return Architecture(
        name=name,
        config=LlamaConfig,
        net=Llama,
        layouts={"transformers": transformers_layout, "gguf": gguf},
        configs={"transformers": config_map},
        folders={"transformers": TransformersDecoder(config_map)},
    )


ARCHITECTURE = decoder("llama", LLAMA_CONFIG, interleaved_gguf_layout)
MISTRAL = decoder("mistral", MISTRAL_CONFIG, interleaved_gguf_layout)
