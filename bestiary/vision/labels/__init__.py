"""The names of classes, one list a file: line i names class i."""

from __future__ import annotations

from functools import cache
from pathlib import Path

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
