"""The files in a folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


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
