"""How encoders of text learn: the loss of each task, on packed rows, and the batches that it is computed on.

Language models learn in `finetuning_language.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.packing import Ragged
from bestiary.core.tuning.module import FineTuning, Judge
from bestiary.text.collate import IGNORED, Pack, PackedBatch, Row

SHOWN = 60  # characters of a text in a message
SCALE = 20.0  # of cosines before their softmax, as sentence-transformers trains


def row_of(texts: Sequence[str]) -> Callable[[int], str]:
    """What messages call a row: its number and how its text begins."""
    return lambda row: f"row {row} ({texts[row][:SHOWN]!r})"


class PackedRows:
    """Rows of tokens, and what they are labelled with, to packed rows."""

    def __init__(self) -> None:
        self.pack = Pack()

    def __call__(self, rows: Sequence[Row], seeds: Sequence[int]) -> PackedBatch:
        return self.pack(rows)


class TextClassification(FineTuning):
    """A net with a head for classes learns to tell texts apart, by cross-entropy."""

    judge = Judge("val_accuracy")

    def loss(self, inputs: PackedBatch) -> Tensor:
        return F.cross_entropy(self.net(inputs.tokens, inputs.mask, inputs.positions), _labels(inputs))

    def measures(self, inputs: PackedBatch) -> tuple[dict[str, Tensor], int]:
        logits, labels = self.net(inputs.tokens, inputs.mask, inputs.positions), _labels(inputs)
        right = (logits.argmax(-1) == labels).float().mean()
        return {"val_loss": F.cross_entropy(logits, labels), "val_accuracy": right}, len(labels)


class TokenClassification(FineTuning):
    """A net with a head for each token learns the tags of words, by cross-entropy over the first token of each word."""

    judge = Judge("val_accuracy")

    def loss(self, inputs: PackedBatch) -> Tensor:
        logits, labels = self.net(inputs.tokens, inputs.mask, inputs.positions), _labels(inputs)
        summed = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        return summed / (labels != IGNORED).sum().clamp(min=1)

    def measures(self, inputs: PackedBatch) -> tuple[dict[str, Tensor], int]:
        labels = _labels(inputs)
        first = labels != IGNORED
        logits, labels = self.net(inputs.tokens, inputs.mask, inputs.positions)[first], labels[first]
        right = (logits.argmax(-1) == labels).float().mean()
        return {"val_loss": F.cross_entropy(logits, labels), "val_accuracy": right}, len(labels)


class Pairs(NamedTuple):
    """Texts, and for each of them one that means the same."""

    texts: PackedBatch
    positives: PackedBatch  # of which `order` says whose each is
    order: Tensor  # (n,), the place of the positive of each text


class PackedPairs:
    """Rows with the tokens of a text in `tokens` and of its positive in `positive` to packed pairs."""

    def __call__(self, rows: Sequence[Row], seeds: Sequence[int]) -> Pairs:
        pack = Pack()  # which puts the longest first
        texts = pack([{"tokens": row["tokens"], "label": number} for number, row in enumerate(rows)])
        positives = pack([{"tokens": row["positive"], "label": number} for number, row in enumerate(rows)])
        assert texts.labels is not None and positives.labels is not None
        return Pairs(texts, positives, positives.labels.argsort()[texts.labels])


class Contrastive(FineTuning):
    """A net learns that a text is nearer to its positive than to those of the other texts in its batch.

    It is the loss of van den Oord et al. 2018 (arXiv:1807.03748) on cosines; `pooling` makes one vector of the rows of a text.
    """

    judge = Judge("val_recall")

    def __init__(self, net: nn.Module, pooling: Callable[[Tensor, Ragged], Tensor], **how: Any):
        super().__init__(net, **how)
        self.pooling = pooling

    def loss(self, inputs: Pairs) -> Tensor:
        scores, order = self._scores(inputs)
        return (F.cross_entropy(scores, order) + F.cross_entropy(scores.T, order.argsort())) / 2

    def measures(self, inputs: Pairs) -> tuple[dict[str, Tensor], int]:
        scores, order = self._scores(inputs)
        found = (scores.argmax(-1) == order).float().mean()
        return {"val_loss": self.loss(inputs), "val_recall": found}, len(order)

    def _scores(self, inputs: Pairs) -> tuple[Tensor, Tensor]:
        """Cosines of all texts of a batch with all positives, scaled: (n, n); and which are those of pairs."""
        a, b = (self._vectors(packed) for packed in (inputs.texts, inputs.positives))
        return SCALE * a @ b.T, inputs.order

    def _vectors(self, packed: PackedBatch) -> Tensor:
        hidden_states = self.net(packed.tokens, packed.mask, packed.positions)
        return F.normalize(self.pooling(hidden_states, packed.mask), dim=-1)


def _labels(inputs: PackedBatch) -> Tensor:
    assert inputs.labels is not None, "rows without labels"
    return inputs.labels.long()
