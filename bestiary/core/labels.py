"""What classifiers answer with, whatever they classify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from bestiary.core.task import Report
from bestiary.errors import InputError, LayoutError


class Label(NamedTuple):
    """A class of the model, and the probability that it gives to it."""

    name: str
    score: float


def class_names(given: Sequence[str] | None, count: int, card: str) -> tuple[str, ...]:
    """The names of the classes of a card's model: those given, or else their numbers.

    Raises LayoutError for too few or many, and for a model without classes.
    """
    if count < 1:
        raise LayoutError(f"{card} has no classes to name\nits net was saved without a head: load it by a task that needs none")
    names = tuple(map(str, range(count))) if given is None else tuple(given)
    if len(names) != count:
        raise LayoutError(f"{card} has {len(names)} labels for {count} classes\nmend `labels` in the card")
    return names


def check_classes(num_classes: object) -> None:
    """Raise InputError for what is not a number of classes to tell apart."""
    if not isinstance(num_classes, int) or num_classes < 1:
        raise InputError(f"num_classes={num_classes!r} leaves nothing to tell apart\ngive 1 or more")


def check_top(top: object) -> None:
    """Raise InputError for what is not a number of answers."""
    if not (isinstance(top, int) and top >= 1) or isinstance(top, bool):
        raise InputError(f"top={top!r} is not a number of answers\ngive 1 or more")


def ranked(scores: Tensor, names: Sequence[str], top: int) -> list[list[Label]]:
    """The `top` classes of each row of scores (n, classes), best first."""
    best, classes = scores.topk(min(top, len(names)))
    return [
        [Label(names[index], score) for index, score in zip(*found, strict=True)]
        for found in zip(classes.tolist(), best.tolist(), strict=True)
    ]


LABELLED: Mapping[str, Any] = {"label": str, "score": float, "labels": list[str], "scores": list[float]}


def labelled(labels: Sequence[Label]) -> Mapping[str, Any]:
    """Labels, best first, as a record of the columns LABELLED: the best, then all of them.

    >>> labelled([Label("cat", 0.75), Label("dog", 0.25)])
    {'label': 'cat', 'score': 0.75, 'labels': ['cat', 'dog'], 'scores': [0.75, 0.25]}
    """
    names, scores = zip(*labels, strict=True)
    return {"label": names[0], "score": scores[0], "labels": list(names), "scores": list(scores)}


def label_report(what: str, inputs: Sequence[str], results: Sequence[Sequence[Label]]) -> Report:
    """What the command line shows of the labels of inputs, in a column named after what these are."""
    records = [
        {what: given, "rank": rank, "label": label.name, "score": label.score}
        for given, found in zip(inputs, results, strict=True)
        for rank, label in enumerate(found, start=1)
    ]
    rows = [[*list(record.values())[:3], f"{record['score']:.1%}"] for record in records]
    return Report(columns=[what, "rank", "label", "score"], rows=rows, records=records, results=results)
