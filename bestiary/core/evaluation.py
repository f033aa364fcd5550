"""How well a model does on labelled rows: what an evaluation gives, and what those of all tasks share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from bestiary.core.tables import LABEL, column_names
from bestiary.errors import InputError

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

SHOWN = 5  # names that a message lists
MISTAKES = 20  # pairs of classes that are reported as confused

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]  # items, what they are, how many → the items, as they are asked for
Match = Literal["names", "numbers"]


class Confusion(NamedTuple):
    """How often the model took one class for another."""

    actual: str
    answered: str
    times: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well a model does on some rows."""

    metrics: Mapping[str, float]  # always in the same order, the main one first
    rows: int  # how many were evaluated
    counts: Mapping[str, int] = field(default_factory=dict)  # what the metrics rest on besides: tokens, spans, a window's length
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # for each class that occurs, its own metrics
    confused: tuple[Confusion, ...] = ()  # the most frequent mistakes, the most frequent first


class Classes:
    """From the labels of rows to the numbers of a model's classes.

    They are matched by their names, or else, with match="numbers", a label's number is that of the class, for data that calls
    the same classes in the same order by other names. What the rows do not have is no matter.

    Raises InputError, at once for a table, for rows without labels or with one that is no class of the model.
    """

    def __init__(self, rows: Rows, names: Sequence[str], match: Match, model: str):
        need_columns(rows, [LABEL])
        if match not in ("names", "numbers"):
            raise InputError(f'match={match!r} is not known\ngive "names" or "numbers"')
        self.names, self.match, self.model = names, match, model
        kind = (rows.features or {}).get(LABEL)
        self._kind = getattr(kind, "feature", kind)
        self._numbers = {name: number for number, name in enumerate(names)}
        self._known: dict[Any, int | None] = {}
        found = dict.fromkeys(_labels(rows))
        unknown = [label for label in found if self._number(label) is None]
        if unknown:
            raise self._unknown(unknown, list(found))

    def __call__(self, label: Any) -> int:
        number = self._number(label)
        if number is None:
            raise self._unknown([label], [label])
        return number

    def name(self, label: Any) -> str:
        """What the data calls a label."""
        called = getattr(self._kind, "int2str", str)
        return str(called(label))

    def _number(self, label: Any) -> int | None:
        if label is None:
            raise InputError(f"a row has no {LABEL}\ngive every row one, or leave it out")
        if isinstance(label, (list, float)):
            raise InputError(f"{LABEL!r} holds {label!r}\nwanted: one class for each row")
        if label not in self._known:
            self._known[label] = self._counted(label) if self.match == "numbers" else self._numbers.get(self.name(label))
        return self._known[label]

    def _counted(self, label: Any) -> int | None:
        return label if isinstance(label, int) and 0 <= label < len(self.names) else None

    def _unknown(self, unknown: Sequence[Any], found: Sequence[Any]) -> InputError:
        called = {self.name(label) for label in found}
        lacking = [name for name in self.names if name not in called]
        lacks = f"of its own {len(self.names)} the data lacks {len(lacking)}: {listed(lacking)}\n" if lacking else ""
        return InputError(
            f"{self.model} does not know {len(unknown)} of the data's {len(found)} classes: {listed(map(self.name, unknown))}\n"
            f"{lacks}"
            "call the classes alike, or take a model that was tuned on such data"
        )


def _labels(rows: Rows) -> Iterable[Any]:
    """The labels that a table has; of a stream those that it may have, where it says so."""
    if is_table(rows):
        labels = rows.unique(LABEL) if not hasattr(rows.features[LABEL], "feature") else rows[LABEL][:]
        return chain.from_iterable(labels) if labels and isinstance(labels[0], list) else labels
    kind = (rows.features or {}).get(LABEL)
    return range(getattr(getattr(kind, "feature", kind), "num_classes", 0))


def listed(names: Iterable[str]) -> str:
    """The first of some names, for a message.

    >>> listed("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    first = list(names)
    more = f" and {len(first) - SHOWN} more" if len(first) > SHOWN else ""
    return ", ".join(name[:40] for name in first[:SHOWN]) + more


def need_columns(rows: Rows, columns: Sequence[str]) -> None:
    """Raise InputError, which lists those there are, for a column that rows lack, and for no rows at all."""
    if is_table(rows) and not len(rows):
        raise InputError("there are no rows to evaluate on\ngive a split that has some")
    there = column_names(rows)
    if missing := [name for name in columns if name not in there]:
        raise InputError(f"the data has no column {missing[0]!r}\nits columns: {', '.join(there)}")


def is_table(rows: Rows) -> bool:
    """Whether rows are a table, which knows its length, and no stream."""
    return hasattr(rows, "__len__")


def read(rows: Rows, columns: Sequence[str], progress: Progress) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row; nothing else of a row is read."""
    rows = rows.select_columns(list(columns))
    for row in progress(rows, "rows", len(rows)) if is_table(rows) else rows:
        yield tuple(row[name] for name in columns)


def silent(items: Iterable[Any], name: str, count: int) -> Iterable[Any]:
    """A Progress that shows nothing."""
    return items


def metrics_of(module: str) -> Any:
    """A module of torchmetrics. Raises InputError where it is not installed."""
    try:
        return import_module(f"torchmetrics.{module}")
    except ImportError:
        raise InputError("evaluation needs torchmetrics, which is not installed\npip install 'bestiary[train]'") from None


def evaluated_classes(
    task: Any, rows: Rows, column: str, *, batch_size: int | None, match: Match, progress: Progress
) -> Evaluation:
    """The evaluation of a classifier of images or sounds, whose `labels` are its classes, over rows of `column` and `label`."""
    need_columns(rows, [column])
    classes = Classes(rows, task.labels, match, task.card.name)
    number = {name: index for index, name in enumerate(task.labels)}
    labels: list[int] = []

    def inputs() -> Iterator[Any]:
        for value, label in read(rows, [column, LABEL], progress):
            labels.append(classes(label))
            yield value

    answers = [[number[label.name] for label in found] for found in task(inputs(), batch_size=batch_size)]
    return classified(answers, labels, task.labels)


def classified(answers: Sequence[Sequence[int]], labels: Sequence[int], names: Sequence[str]) -> Evaluation:
    """Of a classifier: accuracy, of more than five classes also that any of the first five answers is right, and macro F1.

    `answers` are the classes that it gives to each row, best first, `labels` the right ones. Macro F1 is the mean over the
    classes that occur, as labels or as answers.

    >>> classified([[0, 1], [1, 0], [0, 1]], [0, 1, 1], ["cat", "dog"]).metrics
    {'accuracy': 0.666..., 'macro_f1': 0.666...}
    """
    if not labels:
        raise InputError("there are no rows to evaluate on\ngive a split that has some")
    functional = metrics_of("functional.classification")
    best = [first for first, *_ in answers]
    there = sorted({*best, *labels})
    place = {number: index for index, number in enumerate(there)}
    given = [torch.tensor([place[number] for number in numbers]) for numbers in (best, labels)]
    count = max(2, len(there))  # torchmetrics takes no less

    def measure(metric: str, average: str | None) -> Any:
        return getattr(functional, f"multiclass_{metric}")(*given, num_classes=count, average=average)

    metrics = {"accuracy": float(measure("accuracy", "micro"))}
    if len(names) > 5:
        right = sum(label in found[:5] for found, label in zip(answers, labels, strict=True))
        metrics["top5_accuracy"] = right / len(labels)
    metrics["macro_f1"] = float(measure("f1_score", "macro"))
    each = {name: measure(name, None).tolist() for name in ("precision", "recall")} | {"f1": measure("f1_score", None).tolist()}
    rows = Counter(labels)
    mistakes = Counter((label, found) for label, found in zip(labels, best, strict=True) if label != found)
    return Evaluation(
        metrics=metrics,
        rows=len(labels),
        classes={
            names[number]: {**{name: values[index] for name, values in each.items()}, "rows": rows[number]}
            for index, number in enumerate(there)
        },
        confused=tuple(Confusion(names[a], names[b], times) for (a, b), times in mistakes.most_common(MISTAKES)),
    )
