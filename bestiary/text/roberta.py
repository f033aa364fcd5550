"""RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa (Conneau et al. 2019, arXiv:1911.02116): BERT, trained longer.

The net is BERT's. Its files differ: one segment, other names of heads, and positions that count from behind a padding token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bestiary.core.architecture import Architecture
from bestiary.core.configmap import Fields
from bestiary.core.keymap import Rule, Tensors, ignored, linear, norm, prefixed, tied
from bestiary.text.bert import Bert, BertConfig, encoder_rules, transformers_config
from bestiary.text.heads import RESIZED_BY, HeadKind, head_rules
from bestiary.text.published import EncoderHead, TransformersEncoder

UNUSED = 2  # rows before that of the first position: its number is the padding token's, 1, and one more


@dataclass(frozen=True)
class WithoutUnused:
    """The table of positions from the first that a token can have; zeros are written before it."""

    def load(self, theirs: Tensors) -> Tensors:
        return tuple(table[UNUSED:] for table in theirs)

    def save(self, ours: Tensors) -> Tensors:
        return tuple(torch.cat([table.new_zeros(UNUSED, *table.shape[1:]), table]) for table in ours)


class Positions:
    """`max_position_embeddings`, which counts the unused rows too."""

    keys = ("max_position_embeddings",)

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {"positions": published["max_position_embeddings"] - UNUSED}

    def write(self, config: Any) -> Fields:
        return {"max_position_embeddings": config.positions + UNUSED}


def transformers_layout(config: BertConfig) -> list[Rule]:
    prefixes = ("", "roberta.") if config.head == "none" else ("roberta.", "")
    positions = Rule((("embeddings.position_embeddings.weight",),), ("embedding.positions.weight",), WithoutUnused())
    rules: dict[HeadKind, tuple[Rule, ...]] = {
        "mask": (
            *linear("lm_head.dense", "head.transform.dense"),
            *norm("lm_head.layer_norm", "head.transform.norm"),
            tied(("lm_head.bias", "lm_head.decoder.bias"), "head.output.bias"),
        ),
        "classes": (
            *linear("classifier.dense", "head.transform.dense"),
            *linear("classifier.out_proj", "head.output"),
        ),
        "tokens": linear("classifier", "head.output"),
        "spans": linear("qa_outputs", "head.output"),
    }
    return [
        *encoder_rules(config, prefixes, "lm_head.decoder.weight"),
        *prefixed(prefixes, [positions, *ignored("pooler.dense.weight", "pooler.dense.bias")]),
        *head_rules(config.head, rules),
    ]


def architecture(name: str, classes: str) -> Architecture:
    """One of the two; `classes` is what the names of its classes begin with in transformers."""
    config = transformers_config(name, EncoderHead(classes), Positions(), pad_token_id=UNUSED - 1)
    return Architecture(
        name=name,
        config=BertConfig,
        net=Bert,
        layouts={"transformers": transformers_layout},
        configs={"transformers": config},
        folders={"transformers": TransformersEncoder(config)},
        resized_by=RESIZED_BY,
    )


ARCHITECTURE = architecture("roberta", "Roberta")
XLM_ROBERTA = architecture("xlm-roberta", "XLMRoberta")
