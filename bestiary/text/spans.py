"""Spans of words and how well they are found, as CoNLL counts them (Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bestiary.text.tasks.tagging import OUTSIDE


class WordSpan(NamedTuple):
    """The words of a sentence from `start` up to `end`, which have a label."""

    label: str
    start: int
    end: int


class Found(NamedTuple):
    """How many spans there are, how many were found, and how many of these are right."""

    right: int
    found: int
    there: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.found + self.there) if self.found + self.there else 0.0


def label_of(tag: str) -> str | None:
    """The label of a tag; None for the one of words that are in no span.

    >>> label_of("B-PER"), label_of("verb"), label_of("O")
    ('PER', 'verb', None)
    """
    return _parsed(tag)[1]


def spans_of(tags: Sequence[str]) -> list[WordSpan]:
    """The spans that the tags of a sentence's words make.

    A tag is O, or a label behind B- (a span begins), I- (it goes on), E- (it ends here) or S- (it is one word); a label alone
    counts as I-. What goes on where there is nothing of that label to go on with begins a span: no tag is lost.

    >>> spans_of(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [WordSpan(label='PER', start=0, end=2), WordSpan(label='LOC', start=3, end=4), WordSpan(label='LOC', start=4, end=5)]
    """
    spans: list[WordSpan] = []
    before, open_label = "", None
    for place, tag in enumerate(tags):
        prefix, label = _parsed(tag)
        if label is not None and label == open_label and prefix not in ("B", "S") and before not in ("E", "S"):
            spans[-1] = spans[-1]._replace(end=place + 1)
        elif label is not None:
            spans.append(WordSpan(label, place, place + 1))
        before, open_label = prefix, label
    return spans


def count_spans(answers: Iterable[Sequence[str]], expected: Iterable[Sequence[str]]) -> dict[str, Found]:
    """For each label how many spans were found whose words and label are right, of the tags of sentences.

    >>> count_spans([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]])
    {'PER': Found(right=0, found=1, there=1)}
    """
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for given, wanted in zip(answers, expected, strict=True):
        own, true = set(spans_of(given)), set(spans_of(wanted))
        for counter, spans in ((right, own & true), (found, own), (there, true)):
            counter.update(span.label for span in spans)
    return {label: Found(right[label], found[label], there[label]) for label in sorted({*found, *there})}


def _parsed(tag: str) -> tuple[str, str | None]:
    if tag == OUTSIDE:
        return OUTSIDE, None
    prefix, dash, label = tag.partition("-")
    return (prefix, label) if dash and prefix in ("B", "I", "E", "S") else ("I", tag)
