"""BERT, a bidirectional encoder of text (Devlin et al. 2018, arXiv:1810.04805)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.configmap import TransformersConfig
from bestiary.core.context import Mask, look
from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.text.published import TransformersEncoder


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    layers: int  # number of blocks
    width: int  # size of a hidden state; divisible by heads
    heads: int  # attention heads of a block
    hidden: int  # width of the MLP
    vocabulary: int  # number of token ids
    positions: int  # longest sequence
    segments: int = 2  # sentence A, sentence B
    eps: float = 1e-12  # of every norm; the checkpoint's own


class BertEmbedding(nn.Module):
    """The sum of what a token is, where it stands and which sentence it is of, normalised."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.segments = nn.Embedding(config.segments, config.width)
        self.norm = NormSpec(eps=config.eps).build(config.width)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        if segments is None:
            segments = torch.zeros_like(tokens)
        return self.norm(self.tokens(tokens) + self.segments(segments) + self.positions(positions))


class Bert(nn.Module):
    """The encoder: token ids in, hidden states out.

    >>> config = BertConfig(layers=2, width=32, heads=4, hidden=64, vocabulary=100, positions=16)
    >>> Bert(config)(torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 32])
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embedding = BertEmbedding(config)
        block = BlockSpec(
            attention=AttentionSpec(width=config.width, heads=config.heads),
            mlp=MlpSpec(width=config.width, hidden=config.hidden, activation="gelu"),
            norm=NormSpec(eps=config.eps),
            order="post",
        )
        self.blocks = block.stack(config.layers)

    def forward(
        self,
        tokens: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (..., width) of token ids (...).

        The ids come as (batch, length) with a padding mask of that shape (True where a token is), or as packed rows (rows,)
        with a ragged mask and the position of each row in its own sequence. `segments` are 0 for sentence A, 1 for B.
        """
        context = look(mask, tokens, positions, causal=False)
        x = self.embedding(tokens, context.positions, segments)  # (..., width)
        return self.blocks(x, context)


def transformers_layout(config: BertConfig) -> list[Rule]:
    encoder = [
        same("embeddings.word_embeddings.weight", "embedding.tokens.weight"),
        same("embeddings.position_embeddings.weight", "embedding.positions.weight"),
        same("embeddings.token_type_embeddings.weight", "embedding.segments.weight"),
        *norm("embeddings.LayerNorm", "embedding.norm"),
        *each(
            config.layers,
            *linear("encoder.layer.{i}.attention.self.query", "blocks.{i}.attention.query"),
            *linear("encoder.layer.{i}.attention.self.key", "blocks.{i}.attention.key"),
            *linear("encoder.layer.{i}.attention.self.value", "blocks.{i}.attention.value"),
            *linear("encoder.layer.{i}.attention.output.dense", "blocks.{i}.attention.output"),
            *norm("encoder.layer.{i}.attention.output.LayerNorm", "blocks.{i}.attention_norm"),
            *linear("encoder.layer.{i}.intermediate.dense", "blocks.{i}.mlp.up"),
            *linear("encoder.layer.{i}.output.dense", "blocks.{i}.mlp.down"),
            *norm("encoder.layer.{i}.output.LayerNorm", "blocks.{i}.mlp_norm"),
        ),
        *ignored("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"),
    ]
    # Files of the pretraining model put `bert.` before the encoder and carry its two heads, which an encoder has no use for.
    heads = ignored(
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        *(f"cls.predictions.transform.LayerNorm.{name}" for name in ("weight", "bias", "gamma", "beta")),
    )
    return [*prefixed(("", "bert."), encoder), *heads]


TRANSFORMERS_CONFIG = TransformersConfig(
    "bert",
    layers="num_hidden_layers",
    width="hidden_size",
    heads="num_attention_heads",
    hidden="intermediate_size",
    vocabulary="vocab_size",
    positions="max_position_embeddings",
    segments="type_vocab_size",
    eps="layer_norm_eps",
    fixed={
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "is_encoder_decoder": False,
        "add_cross_attention": False,
    },
    ignored=frozenset({"attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "tie_word_embeddings"}),
    writes={"architectures": ["BertModel"]},
)

ARCHITECTURE = Architecture(
    name="bert",
    config=BertConfig,
    net=Bert,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersEncoder()},
)
