"""Squares as published files say them: by a number, by two, or by height and width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bestiary.errors import LayoutError


def side(size: Any, where: str) -> int:
    """The side of a square, in pixels. Raises LayoutError for what is none, telling `where` it is said.

    >>> side(224, "size"), side([224, 224], "size"), side({"height": 224, "width": 224}, "size")
    (224, 224, 224)
    """
    sides = list(size.values()) if isinstance(size, Mapping) else list(size) if isinstance(size, (list, tuple)) else [size]
    if not sides or any(other != sides[0] for other in sides) or not isinstance(sides[0], int) or sides[0] < 1:
        raise LayoutError(f"{where}: {size!r}\nthe zoo takes squares of whole pixels")
    return sides[0]
