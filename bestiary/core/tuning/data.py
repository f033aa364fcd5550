"""What there is to learn from: the splits of a data set, the names of its classes, and what a person should know of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from bestiary.core.tables import LABEL, UnknownSplit, column_names, quiet
from bestiary.errors import InputError

if TYPE_CHECKING:
    import datasets

HELD_OUT = 0.1  # share of the rows that validate where the data has no split for it
BAR = 30  # characters of the longest bar
STRATUM = "stratum of the row"  # a column while rows are held out


class Splits(NamedTuple):
    """The rows to learn from, those that validate after each epoch, and those that judge at the end."""

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset | None  # None: what validated has to judge as well
    held_out: bool = False  # whether what validates was taken out of `train`

    def there(self) -> list[datasets.Dataset]:
        """Those that there are."""
        return [rows for rows in self[:3] if rows is not None]

    def changed(self, change: Callable[[datasets.Dataset], datasets.Dataset]) -> Splits:
        """The same change of all of them."""
        train, validation, test = (None if rows is None else change(rows) for rows in self[:3])
        return self._replace(train=train, validation=validation, test=test)


def read_splits(load: Callable[[str], Any], seed: int, held_out: float = HELD_OUT) -> Splits:
    """The splits that `load` gives by name. Where there is none for validation, some rows of `train` are held out for it."""
    train, found = load("train"), {}
    for split in ("validation", "test"):
        try:
            found[split] = load(split)
        except UnknownSplit:
            continue
    if "validation" in found:
        return Splits(train, found["validation"], found.get("test"))
    count = max(1, round(held_out * len(train)))
    if len(train) - count < 1:
        raise InputError(f"{len(train)} rows cannot be split into some to learn from and some that validate\ngive more")
    with quiet():
        parts = _with_strata(train, count).train_test_split(test_size=count, seed=seed, stratify_by_column=STRATUM)
    train, validation = (parts[name].remove_columns(STRATUM) for name in ("train", "test"))
    return Splits(train, validation, found.get("test"), held_out=True)


def name_classes(splits: Splits, whose: str) -> tuple[Splits, tuple[str, ...]]:
    """The splits with numbers for labels, and the name of each class, the same in all of them.

    Raises InputError for data without labels, with a single class, or where a split has classes that there is nothing to learn
    from.
    """
    from datasets import ClassLabel

    _need_labels(splits, whose)
    kind = splits.train.features[LABEL]
    if not isinstance(kind, ClassLabel):
        kind = ClassLabel(names=sorted(set().union(*({str(label) for label in rows[LABEL]} for rows in splits.there()))))
        splits = splits.changed(lambda rows: _cast(rows, [kind.str2int(str(label)) for label in rows[LABEL]], kind))
    _check(splits, kind.names, whose)
    return splits, tuple(kind.names)


def name_tags(splits: Splits, whose: str, fewest: int = 2) -> tuple[Splits, tuple[str, ...]]:
    """The same for rows that have a list of labels, one for each word or object, of at least `fewest` classes."""
    from datasets import ClassLabel, List

    _need_labels(splits, whose)
    kind = splits.train.features[LABEL]
    if not isinstance(kind, List):
        raise InputError(f"{whose}: {LABEL!r} holds {kind}\nwanted: a list of tags for each row, one for each of its words")
    tag = kind.feature
    if not isinstance(tag, ClassLabel):
        tag = ClassLabel(names=sorted({str(label) for rows in splits.there() for row in rows[LABEL] for label in row}))
        splits = splits.changed(
            lambda rows: _cast(rows, [[tag.str2int(str(label)) for label in row] for row in rows[LABEL]], List(tag))
        )
    _check(splits, tag.names, whose, fewest)
    return splits, tuple(tag.names)


def described(splits: Splits, classes: Sequence[str] = (), lengths: Sequence[int] = ()) -> str:
    """What was understood of the data, for a person to look at before anything starts."""
    counts = [f"{len(splits.train):,} rows to learn from", f"{len(splits.validation):,} to validate"]
    lines = [", ".join([*counts, *([] if splits.test is None else [f"{len(splits.test):,} to judge at the end"])])]
    if lengths:
        lines.append(f"{sum(lengths):,} tokens, {min(lengths)} to {max(lengths)} a row, half of them up to {median(lengths):.0f}")
    if classes:
        found = _counted(splits.train)
        most, width = max(found.values()), max(map(len, classes))
        lines.append(f"{len(classes)} classes:")
        for number, name in sorted(enumerate(classes), key=lambda item: -found[item[0]]):
            lines.append(f"  {name:{width}} {found[number]:7,} {'█' * max(1, round(BAR * found[number] / most))}")
    return "\n".join(lines)


def _need_labels(splits: Splits, whose: str) -> None:
    for split, rows in zip(splits._fields, splits[:3], strict=False):
        if rows is None:
            continue
        if LABEL not in (there := column_names(rows)):
            raise InputError(f"{whose} has no column {LABEL!r} in {split}\nits columns: {', '.join(there)}")
        if None in (labels := rows[LABEL][:]):
            raise InputError(f"{whose}: row {labels.index(None)} of {split} has no label\ngive every row one, or leave it out")


def _check(splits: Splits, names: Sequence[str], whose: str, fewest: int = 2) -> None:
    found = _counted(splits.train)
    if empty := [name for number, name in enumerate(names) if not found[number]]:
        number, named = names.index(empty[0]), list(splits._asdict().items())[:3]
        where = [split for split, rows in named if rows is not None and number in _counted(rows)]
        elsewhere = f", and some in {' and '.join(where)}" if where else ""
        raise InputError(
            f"{whose} has no rows of {empty[0]!r} to learn from{elsewhere}\n"
            "give it some, or leave it out: all splits have the same classes"
        )
    if len(names) < fewest:
        raise InputError(f"{whose} has one class, {names[0]!r}: there is nothing to tell apart\ngive at least two")


def _counted(rows: datasets.Dataset) -> Counter[int]:
    """How often each label occurs, alone or in a list."""
    labels = rows[LABEL][:]
    return Counter(chain.from_iterable(labels) if labels and isinstance(labels[0], list) else labels)


def _cast(rows: datasets.Dataset, labels: list[Any], kind: Any) -> datasets.Dataset:
    from datasets import Features

    with quiet():
        return rows.remove_columns(LABEL).add_column(LABEL, labels).cast(Features({**rows.features, LABEL: kind}))


def _with_strata(rows: datasets.Dataset, count: int) -> datasets.Dataset:
    """The rows with a column of what has to be in both parts: their classes, where each has rows enough, or else all alike."""
    from datasets import ClassLabel

    labels = rows[LABEL][:] if LABEL in rows.column_names else []
    strata = ["" if isinstance(label, list) else str(label) for label in labels] or [""] * len(rows)
    found = Counter(strata)
    if min(found.values()) < 2 or len(found) > min(count, len(rows) - count):
        strata, found = [""] * len(rows), Counter({"": len(rows)})
    kind = ClassLabel(names=sorted(found))
    return rows.add_column(STRATUM, list(map(kind.str2int, strata))).cast_column(STRATUM, kind)
