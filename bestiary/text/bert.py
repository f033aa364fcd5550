"""BERT, a bidirectional encoder of text (Devlin et al. 2018, arXiv:1810.04805)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.configmap import Part, TransformersConfig
from bestiary.core.context import Mask, look
from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same, tied
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.text.heads import RESIZED_BY, HeadKind, HeadSpec, TransformSpec, head_rules
from bestiary.text.published import EncoderHead, TransformersEncoder


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    layers: int  # number of blocks
    width: int  # size of a hidden state; divisible by heads
    heads: int  # attention heads of a block
    hidden: int  # width of the MLP
    vocabulary: int  # number of token ids
    positions: int  # longest sequence
    segments: int = 2  # sentence A, sentence B; 0 for a net that does not tell them apart
    eps: float = 1e-12  # of every norm; the checkpoint's own
    head: HeadKind = "none"  # what follows the encoder, a key of HEADS
    num_classes: int | None = None  # of the heads "classes" and "tokens"
    pooler: Literal["tanh", "relu"] = "tanh"  # activation of the head "classes"


class PlainEmbedding(nn.Module):
    """The sum of what a token is and where it stands, normalised."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.norm = NormSpec(eps=config.eps).build(config.width)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        return self.norm(self.tokens(tokens) + self.positions(positions))


class SegmentedEmbedding(PlainEmbedding):
    """The same with which sentence a token is of; of the first, if nothing is said."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.segments = nn.Embedding(config.segments, config.width)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        if segments is None:
            segments = torch.zeros_like(tokens)
        return self.norm(self.tokens(tokens) + self.segments(segments) + self.positions(positions))


class Bert(nn.Module):
    """The encoder and its head: token ids in, hidden states or logits out.

    >>> config = BertConfig(layers=2, width=32, heads=4, hidden=64, vocabulary=100, positions=16)
    >>> Bert(config)(torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 32])
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embedding = SegmentedEmbedding(config) if config.segments else PlainEmbedding(config)
        block = BlockSpec(
            attention=AttentionSpec(width=config.width, heads=config.heads),
            mlp=MlpSpec(width=config.width, hidden=config.hidden, activation="gelu"),
            norm=NormSpec(eps=config.eps),
            order="post",
        )
        self.blocks = block.stack(config.layers)
        head = HeadSpec(
            width=config.width,
            num_classes=config.num_classes,
            mask=TransformSpec(width=config.width, activation="gelu", norm=NormSpec(eps=config.eps)),
            classes=TransformSpec(width=config.width, activation=config.pooler),
        )
        self.head = head.build(config.head, self.embedding.tokens)

    def forward(
        self,
        tokens: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """What the head makes of token ids (...): without one, hidden states (..., width).

        Logits are (..., vocabulary) of a masked token, (sequences, num_classes), (..., num_classes) of tokens, and
        (..., 2) for the start and end of a span. The ids come as (batch, length) with a padding mask of that shape (True
        where a token is), or as packed rows (rows,) with a ragged mask and the position of each row in its own sequence.
        `segments` are 0 for sentence A, 1 for B.
        """
        context = look(mask, tokens, positions, causal=False)
        return self.head(self.hidden_states(tokens, context, segments=segments), context)

    def hidden_states(
        self,
        tokens: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """What the head is given: (..., width)."""
        context = look(mask, tokens, positions, causal=False)
        x = self.embedding(tokens, context.positions, segments)  # (..., width)
        return self.blocks(x, context)


def transformers_layout(config: BertConfig) -> list[Rule]:
    # The encoder by itself is written without the prefix that it has beside a head.
    prefixes = ("", "bert.") if config.head == "none" else ("bert.", "")
    rules: dict[HeadKind, tuple[Rule, ...]] = {
        "mask": (
            *linear("cls.predictions.transform.dense", "head.transform.dense"),
            *norm("cls.predictions.transform.LayerNorm", "head.transform.norm"),
            tied(("cls.predictions.bias", "cls.predictions.decoder.bias"), "head.output.bias"),
        ),
        "classes": (
            *prefixed(prefixes, linear("pooler.dense", "head.transform.dense")),
            *linear("classifier", "head.output"),
        ),
        "tokens": linear("classifier", "head.output"),
        "spans": linear("qa_outputs", "head.output"),
    }
    return [
        *encoder_rules(config, prefixes, "cls.predictions.decoder.weight"),
        *prefixed(prefixes, [same("embeddings.position_embeddings.weight", "embedding.positions.weight")]),
        *head_rules(config.head, rules),
        *ignored("cls.seq_relationship.weight", "cls.seq_relationship.bias"),
    ]


def encoder_rules(config: BertConfig, prefixes: tuple[str, ...], decoder: str) -> list[Rule]:
    """The encoder but for its positions; `decoder` names the copy of its embedding that files may hold."""
    rules = [
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
        *ignored("embeddings.position_ids"),
    ]
    return [embedding_rule(prefixes, decoder), *prefixed(prefixes, rules)]


def embedding_rule(prefixes: tuple[str, ...], decoder: str) -> Rule:
    """The embedding, of which files may hold a copy as the last layer of the mask head."""
    names = tuple(f"{prefix}embeddings.word_embeddings.weight" for prefix in prefixes)
    return tied((*names, decoder), "embedding.tokens.weight")


def transformers_config(model_type: str, *parts: Part, **fixed: Any) -> TransformersConfig:
    """The config.json of BERT, and of those that name their keys as it does."""
    return TransformersConfig(
        model_type,
        layers="num_hidden_layers",
        width="hidden_size",
        heads="num_attention_heads",
        hidden="intermediate_size",
        vocabulary="vocab_size",
        positions="max_position_embeddings",
        segments="type_vocab_size",
        eps="layer_norm_eps",
        parts=parts,
        fixed={
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "is_encoder_decoder": False,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
            **fixed,
        },
        # Dropout rates, and what older releases of transformers noted down.
        ignored=frozenset(
            {"attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout"}
            | {"output_past", "_num_labels", "max_length"}
        ),
        writes={},
    )


TRANSFORMERS_CONFIG = transformers_config("bert", EncoderHead("Bert"))

ARCHITECTURE = Architecture(
    name="bert",
    config=BertConfig,
    net=Bert,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersEncoder(TRANSFORMERS_CONFIG)},
    resized_by=RESIZED_BY,
)
