"""The files in a folder."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from bestiary.errors import InputError


def files_below(folder: Path, endings: Collection[str]) -> list[Path]:
    """The files in a folder, at any depth, whose names end so, in small letters or large, in the order of their paths.

    What begins with a dot is left out.
    """
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in endings
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def located(folder: str, path: str) -> str:
    """Where a path that a table gives leads, from the folder of the table. Raises InputError where it leaves that folder.

    >>> located("/data", "cats/1.jpg")
    '/data/cats/1.jpg'
    """
    whole = os.path.normpath(os.path.join(folder, path))
    if not whole.startswith(os.path.join(folder, "")):
        raise InputError(f"{path[:200]!r} does not lie below {folder}\ngive paths relative to the file that lists them")
    return whole
