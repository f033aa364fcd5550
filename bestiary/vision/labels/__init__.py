"""The names of classes, one list a file: line i names class i."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from bestiary.core.labels import class_names
from bestiary.errors import LayoutError

FOLDER = Path(__file__).parent


@cache
def names(list_name: str) -> tuple[str, ...]:
    """The names of a shipped list, in the order of its classes. Raises LayoutError, naming the lists there are.

    >>> names("imagenet-1k")[:2]
    ('tench', 'goldfish')
    """
    lists = {path.stem: path for path in FOLDER.glob("*.txt")}
    if list_name not in lists:
        raise LayoutError(f"labels {list_name!r} are not shipped\nthere are: {', '.join(sorted(lists))}")
    return tuple(lists[list_name].read_text(encoding="utf-8").splitlines())


def given_by(card: Any) -> tuple[str, ...] | None:
    """The names that a card gives, or those of the shipped list that it names; None for neither. Raises LayoutError."""
    given = card.labels
    return names(given) if isinstance(given, str) else given


def labels_of(card: Any, config: Any) -> tuple[str, ...]:
    """The names of the classes of a card whose net has this config. Raises LayoutError, as `names` and `class_names` do."""
    return class_names(given_by(card), getattr(config, "num_classes", 0), card.name)
