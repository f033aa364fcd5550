"""Texts, and pairs of texts, to labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bestiary.core.labels import LABELLED, Label, check_top, class_names, labelled, ranked
from bestiary.core.record import record
from bestiary.core.task import Report
from bestiary.text.tasks.encoder import BATCH_SIZE, EncoderTask, answered, of_sequences

Pair = tuple[str, str]
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": torch.sigmoid,
    "logits": lambda logits: logits,
}


@dataclass(frozen=True, kw_only=True)
class TextClassifierPreprocess:
    """The keys of a card's `preprocess` for text-classification."""

    max_length: int  # tokens that are read of a text or a pair, special ones included
    scores: Literal["softmax", "sigmoid", "logits"] = "softmax"  # one label a text; any number of them; a measure, not labels


class TextClassifier(EncoderTask):
    """Texts to labels.

        classify = bestiary.load("distilbert-sst-2")
        classify("What a film!")[0].name        # "POSITIVE"
    """

    keys = ("scores",)
    forms = (("text",), ("text", "pair"))

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        preprocess = record(TextClassifierPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.tokenizer = self._tokenizer(preprocess.max_length)
        self.scores = SCORES[preprocess.scores]
        config: Any = self.net.config
        self.labels = class_names(self.card.labels, config.num_classes, self.card.name)

    def __call__(
        self, texts: str | Pair | Iterable[str | Pair], *, top: int = 5, batch_size: int = BATCH_SIZE
    ) -> Any:
        """The `top` labels with the highest scores, best first: a list of Label for a text, a list of lists for a list.

        A tuple of two texts is one input, for models that judge pairs: (premise, hypothesis). An iterator is answered by an
        iterator, reading `batch_size` inputs at a time. What is over the card's max_length is cut, with a warning once. Raises
        InputError for what is not a text.
        """
        check_top(top)
        one = isinstance(texts, str) or (isinstance(texts, tuple) and len(texts) == 2)
        return answered(texts, one, lambda batch: self._classify(batch, top), batch_size)

    def returns(self) -> Mapping[str, Any]:
        return LABELLED

    def record(self, result: list[Label]) -> Mapping[str, Any]:
        return labelled(result)

    def report(self, inputs: Sequence[str]) -> Report:
        """The texts of a pair are typed as one, with a tab between them."""
        pairs = [(first, second) if tab else first for first, tab, second in (text.partition("\t") for text in inputs)]
        records = [
            {"text": text, "rank": rank, "label": label.name, "score": label.score}
            for text, found in zip(inputs, self(pairs), strict=True)
            for rank, label in enumerate(found, start=1)
        ]
        rows = [[*list(record.values())[:3], round(record["score"], 4)] for record in records]
        return Report(columns=["text", "rank", "label", "score"], rows=rows, records=records)

    def _classify(self, texts: Sequence[str | Pair], top: int) -> list[list[Label]]:
        logits = self._logits(self.tokenizer.encode(texts), of_sequences)
        return ranked(self.scores(torch.stack(logits)), self.labels, top) if logits else []
