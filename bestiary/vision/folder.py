"""The images in a folder."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from PIL import Image

from bestiary.core.folder import files_below
from bestiary.errors import InputError

# Formats that Pillow recognises, but does not decode without another program.
RECOGNISED_ONLY = frozenset(["BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"])


@cache
def endings() -> tuple[str, ...]:
    """How names of images end that Pillow reads, in small letters."""
    kinds = Image.registered_extensions()
    return tuple(ending for ending, kind in kinds.items() if kind in Image.OPEN and kind not in RECOGNISED_ONLY)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files in a folder, at any depth, whose names end like an image that Pillow reads, in the order of their paths.

    What begins with a dot is left out. Raises InputError for what is no folder, and for one without images.

    >>> image_files(".")
    [PosixPath('cat.jpg')]
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder\ngive one that holds images, or a list of images")
    files = files_below(folder, endings())
    if not files:
        raise InputError(f"there are no images in {folder}\ngive a folder that holds some, at any depth")
    return files
