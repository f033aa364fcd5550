"""Texts to the spans in them that have a label, such as names of people and places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from tokenizers import Encoding
from torch import Tensor

from bestiary.core.labels import class_names
from bestiary.core.record import record
from bestiary.core.task import Report
from bestiary.errors import InputError
from bestiary.text.tasks.encoder import BATCH_SIZE, EncoderTask, answered, of_rows
from bestiary.text.transforms import check_texts

OUTSIDE = "O"  # the tag of words that are in no span


@dataclass(frozen=True, kw_only=True)
class TokenClassifierPreprocess:
    """The keys of a card's `preprocess` for token-classification."""

    max_length: int  # tokens of a window; longer texts are read in windows that overlap by a fourth


class Span(NamedTuple):
    """A labelled part of a text: text[start:end], and the mean probability of its words' tags."""

    label: str
    text: str
    start: int
    end: int
    score: float


class Word(NamedTuple):
    """A word of a text, the tag that it got, and how far from the end of its window it stood."""

    start: int
    end: int
    tag: str
    score: float
    margin: int


class TokenClassifier(EncoderTask):
    """Texts to labelled spans.

        find = bestiary.load("bert-base-ner")
        find("Ada Lovelace lived in London.")   # [Span("PER", "Ada Lovelace", 0, 12, …), Span("LOC", "London", 22, 28, …)]
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        preprocess = record(TokenClassifierPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.tokenizer = self._tokenizer(preprocess.max_length, overlap=preprocess.max_length // 4)
        config: Any = self.net.config
        self.labels = class_names(self.card.labels, config.num_classes, self.card.name)

    def __call__(self, texts: str | Iterable[str], *, batch_size: int = BATCH_SIZE) -> Any:
        """The spans of a text in their order, or a list of them for each of a list of texts.

        The first token of a word decides for the word. Words make a span as their tags say: B- begins one, I- continues one
        of the same label or else begins it, and tags without either join equal neighbours. A text of any length is read
        whole. An iterator is answered by an iterator, reading `batch_size` texts at a time. Raises InputError.
        """
        return answered(texts, isinstance(texts, str), self._find, batch_size)

    def tags(self, sentences: Iterable[Sequence[str]], *, batch_size: int = BATCH_SIZE) -> Any:
        """A tag for each word of sentences that are split into words, such as ["Ada", "lives", "."].

        They are read as texts, with a space between words, and the first token of a word decides for it; a word of which the
        tokenizer makes nothing is in no span. A list is answered by a list, an iterator by an iterator. Raises InputError.
        """
        return answered(sentences, False, self._tag, batch_size)

    def returns(self) -> Mapping[str, Any]:
        return {"spans": list[Span]}

    def record(self, result: list[Span]) -> Mapping[str, Any]:
        return {"spans": result}

    def report(self, inputs: Sequence[str]) -> Report:
        records = [
            {"text": text, **{"span" if key == "text" else key: value for key, value in span._asdict().items()}}
            for text, spans in zip(inputs, self(list(inputs)), strict=True)
            for span in spans
        ]
        rows = [[r["text"], r["span"], r["label"], r["start"], r["end"], round(r["score"], 4)] for r in records]
        return Report(columns=["text", "span", "label", "start", "end", "score"], rows=rows, records=records)

    def _find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [_spans(text, words) for text, words in zip(texts, self._words(texts), strict=True)]

    def _tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        for sentence in sentences:
            if isinstance(sentence, str):
                raise InputError(f"{sentence[:60]!r} is not split into words\ngive a list of words, or call the model on texts")
            check_texts(sentence)
        found = self._words([" ".join(sentence) for sentence in sentences])
        return [_tags(sentence, words) for sentence, words in zip(sentences, found, strict=True)]

    def _words(self, texts: Sequence[str]) -> list[list[Word]]:
        """The words of each text, as the tokenizer splits it."""
        windows = self.tokenizer.windows(texts)
        logits = iter(self._logits([window for own in windows for window in own], of_rows))
        found = []
        for own in windows:
            words: dict[int, Word] = {}
            for window in own:
                self._read(window, next(logits), words)
            found.append([words[index] for index in sorted(words)])
        return found

    def _read(self, window: Encoding, logits: Tensor, words: dict[int, Word]) -> None:
        """Add the words of a window; of a word that two windows hold, the one with more text around it stays."""
        scores, classes = logits.softmax(-1).max(-1)
        rows: dict[int, list[int]] = {}
        for row, word in enumerate(window.word_ids):
            if word is not None:
                rows.setdefault(word, []).append(row)
        for word, (first, *rest) in rows.items():
            last = rest[-1] if rest else first
            margin = min(first, len(window) - 1 - last)
            if word not in words or margin > words[word].margin:
                start, end = window.offsets[first][0], window.offsets[last][1]
                words[word] = Word(start, end, self.labels[int(classes[first])], float(scores[first]), margin)


def _tags(sentence: Sequence[str], words: Sequence[Word]) -> list[str]:
    """For each word of a sentence the tag at its first letter; the tokenizer may have split it further."""
    tag_at = {place: word.tag for word in words for place in range(word.start, word.end)}
    tags, start = [], 0
    for word in sentence:
        tags.append(tag_at.get(start, OUTSIDE))
        start += len(word) + 1
    return tags


def _spans(text: str, words: Sequence[Word]) -> list[Span]:
    """Neighbours whose tags belong together, as one."""
    groups: list[tuple[str, list[Word]]] = []
    open_label = None
    for word in words:
        begins, label = _parsed(word.tag)
        if label is not None and label == open_label and not begins:
            groups[-1][1].append(word)
        elif label is not None:
            groups.append((label, [word]))
        open_label = label
    return [_span(text, label, own) for label, own in groups]


def _parsed(tag: str) -> tuple[bool, str | None]:
    """Whether a tag begins a span, and of which label; of none outside."""
    if tag == OUTSIDE:
        return False, None
    prefix, dash, label = tag.partition("-")
    return (prefix == "B", label) if dash and prefix in ("B", "I") else (False, tag)


def _span(text: str, label: str, words: Sequence[Word]) -> Span:
    start, end = words[0].start, words[-1].end
    while start < end and text[start].isspace():  # some tokens begin with the space before them
        start += 1
    return Span(label, text[start:end], start, end, fmean(word.score for word in words))
