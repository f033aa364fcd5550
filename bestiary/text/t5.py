"""T5, an encoder and a decoder of text (Raffel et al. 2020, arXiv:1910.10683), also in the forms of version 1.1 and of Flan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.context import Mask, Memory, look
from bestiary.core.layers import MlpSpec, NormSpec, TiedEmbedding, TiedHead
from bestiary.text.published_t5 import TransformersTranslator
from bestiary.text.t5_layout import TRANSFORMERS_CONFIG, transformers_layout


@dataclass(frozen=True, kw_only=True)
class T5Config:
    layers: int  # blocks of the encoder
    decoder_layers: int  # blocks of the decoder
    width: int  # size of a hidden state
    heads: int  # attention heads of a block
    head_width: int  # size of a head
    hidden: int  # width of the MLP
    vocabulary: int  # number of token ids
    mlp: Literal["plain", "gated"] = "plain"
    activation: str = "relu"  # of the MLP, or of its gate
    buckets: int = 32  # into which distances are sorted
    furthest: int = 128  # distance from which on all share a bucket
    tied: bool = True  # whether the embedding is the head too
    eps: float = 1e-6  # of every norm


class RelativeBias(nn.Module):
    """What the distance of a key adds to its score, for each head: a number for each bucket of distances (section 2.1)."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.buckets, self.furthest = config.buckets, config.furthest
        self.heads = nn.Embedding(config.buckets, config.heads)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions (queries,) and (keys,) → (heads, queries, keys)"""
        return self.heads(self.bucket(queries[:, None] - keys)).permute(2, 0, 1)

    def bucket(self, distance: Tensor) -> Tensor:
        """Half of the buckets for keys before the query, half for those after it."""
        half = self.buckets // 2
        return self.spread(distance.abs(), half) + (distance < 0) * half

    def spread(self, distance: Tensor, buckets: int) -> Tensor:
        """The near half of the buckets holds one distance each, the others ever more, in equal steps of the logarithm."""
        near = buckets // 2
        share = torch.log(distance.clamp(min=1).float() / near) / math.log(self.furthest / near)
        far = near + (share * (buckets - near)).long()
        return torch.where(distance < near, distance, far.clamp(max=buckets - 1))


class CausalRelativeBias(RelativeBias):
    """The same where no key after the query is seen."""

    def bucket(self, distance: Tensor) -> Tensor:
        return self.spread(distance.clamp(min=0), self.buckets)


class T5Encoder(nn.Module):
    """Token ids to hidden states, all of which see each other."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.bias = RelativeBias(config)
        self.blocks = block(config, order="pre").stack(config.layers)
        self.norm = NormSpec(kind="rms", eps=config.eps).build(config.width)

    def forward(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """Hidden states (..., width) of token ids (batch, length) with a padding mask, or packed (rows,) with a ragged one."""
        context = look(mask, tokens, causal=False, bias=self.bias)
        x = self.blocks(self.embedding(tokens), context)  # (..., width)
        return self.norm(x)


class T5Decoder(nn.Module):
    """Token ids and the memory of what was read to logits of the next token."""

    def __init__(self, config: T5Config, embedding: nn.Embedding):
        super().__init__()
        self.embedding = TiedEmbedding(embedding)
        self.bias = CausalRelativeBias(config)
        self.blocks = block(config, order="pre_cross").stack(config.decoder_layers)
        self.norm = NormSpec(kind="rms", eps=config.eps).build(config.width)
        self.scale = config.width**-0.5 if config.tied else 1.0  # embeddings are too large to be a head as they are
        self.head = TiedHead(embedding) if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """Logits (..., vocabulary) of what follows each of the token ids (...)."""
        return self.head(self.hidden_states(tokens, mask))

    def hidden_states(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """What the head makes logits of: (..., width). `mask` is a context with a memory."""
        context = look(mask, tokens, causal=True, bias=self.bias)
        x = self.blocks(self.embedding(tokens), context)  # (..., width)
        return self.norm(x) * self.scale


class T5(nn.Module):
    """Encoder and decoder: token ids of a text, and of what has been made of it so far, to logits of the next token.

    Compute in fp32 or bf16: the hidden states of the larger checkpoints exceed what fp16 can hold.

    >>> config = T5Config(layers=2, decoder_layers=2, width=32, heads=4, head_width=8, hidden=64, vocabulary=100)
    >>> T5(config)(torch.tensor([[5, 6, 7]]), torch.tensor([[0, 8]])).shape
    torch.Size([1, 2, 100])
    """

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.encoder = T5Encoder(config)
        self.decoder = T5Decoder(config, self.encoder.embedding)

    def forward(
        self, tokens: Tensor, decoder_tokens: Tensor, mask: Tensor | None = None, decoder_mask: Tensor | None = None
    ) -> Tensor:
        """Logits (batch, m, vocabulary) of token ids (batch, length) and (batch, m), with their padding masks."""
        memory = Memory(self.encode(tokens, mask), mask)
        return self.decoder(decoder_tokens, look(decoder_mask, decoder_tokens, causal=True, memory=memory))

    def encode(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """What the decoder reads: hidden states (..., width) of a padded batch, or of packed rows."""
        return self.encoder(tokens, mask)


def block(config: T5Config, order: Literal["pre", "pre_cross"]) -> BlockSpec:
    attention = AttentionSpec(
        width=config.width,
        heads=config.heads,
        head_width=config.head_width,
        query_bias=False,
        key_bias=False,
        value_bias=False,
        output_bias=False,
        scale=1.0,
    )
    mlp = MlpSpec(width=config.width, hidden=config.hidden, activation=config.activation, kind=config.mlp, bias=False)
    norm = NormSpec(kind="rms", eps=config.eps)
    return BlockSpec(attention=attention, mlp=mlp, norm=norm, order=order, cross_attention=attention)


ARCHITECTURE = Architecture(
    name="t5",
    config=T5Config,
    net=T5,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersTranslator()},
)
