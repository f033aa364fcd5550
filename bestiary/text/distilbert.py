"""DistilBERT, half the blocks of a BERT, trained to answer as it does (Sanh et al. 2019, arXiv:1910.01108).

The net is BERT's without segments. Its files and their config have names of their own.
"""

from __future__ import annotations

from bestiary.core.architecture import Architecture
from bestiary.core.configmap import TransformersConfig
from bestiary.core.configparts import Constant
from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same
from bestiary.text.bert import Bert, BertConfig, embedding_rule
from bestiary.text.heads import RESIZED_BY, HeadKind, head_rules
from bestiary.text.published import EncoderHead, TransformersEncoder


def transformers_layout(config: BertConfig) -> list[Rule]:
    prefixes = ("", "distilbert.") if config.head == "none" else ("distilbert.", "")
    encoder = [
        same("embeddings.position_embeddings.weight", "embedding.positions.weight"),
        *norm("embeddings.LayerNorm", "embedding.norm"),
        *each(
            config.layers,
            *linear("transformer.layer.{i}.attention.q_lin", "blocks.{i}.attention.query"),
            *linear("transformer.layer.{i}.attention.k_lin", "blocks.{i}.attention.key"),
            *linear("transformer.layer.{i}.attention.v_lin", "blocks.{i}.attention.value"),
            *linear("transformer.layer.{i}.attention.out_lin", "blocks.{i}.attention.output"),
            *norm("transformer.layer.{i}.sa_layer_norm", "blocks.{i}.attention_norm"),
            *linear("transformer.layer.{i}.ffn.lin1", "blocks.{i}.mlp.up"),
            *linear("transformer.layer.{i}.ffn.lin2", "blocks.{i}.mlp.down"),
            *norm("transformer.layer.{i}.output_layer_norm", "blocks.{i}.mlp_norm"),
        ),
        *ignored("embeddings.position_ids"),
    ]
    heads: dict[HeadKind, tuple[Rule, ...]] = {
        "mask": (
            *linear("vocab_transform", "head.transform.dense"),
            *norm("vocab_layer_norm", "head.transform.norm"),
            same("vocab_projector.bias", "head.output.bias"),
        ),
        "classes": (*linear("pre_classifier", "head.transform.dense"), *linear("classifier", "head.output")),
        "tokens": linear("classifier", "head.output"),
        "spans": linear("qa_outputs", "head.output"),
    }
    return [
        embedding_rule(prefixes, "vocab_projector.weight"),
        *prefixed(prefixes, encoder),
        *head_rules(config.head, heads),
    ]


TRANSFORMERS_CONFIG = TransformersConfig(
    "distilbert",
    layers="n_layers",
    width="dim",
    heads="n_heads",
    hidden="hidden_dim",
    vocabulary="vocab_size",
    positions="max_position_embeddings",
    parts=(EncoderHead("DistilBert"), Constant(segments=0, eps=1e-12, pooler="relu")),
    fixed={
        "activation": "gelu",
        "is_decoder": False,
        "is_encoder_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
        "tie_weights_": True,
    },
    # Dropout rates, and how the table of positions was begun before it was trained.
    ignored=frozenset(
        {"attention_dropout", "dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "output_past"}
    ),
    writes={},
)

ARCHITECTURE = Architecture(
    name="distilbert",
    config=BertConfig,
    net=Bert,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersEncoder(TRANSFORMERS_CONFIG)},
    resized_by=RESIZED_BY,
)
