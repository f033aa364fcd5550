"""The column of images: kept as files or bytes, read when a row is asked for."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from PIL.Image import Image

from bestiary.errors import InputError
from bestiary.vision.images import read_image

if TYPE_CHECKING:
    from bestiary.vision.tasks.images import Errors


@dataclass
class Picture(datasets.Image):  # type: ignore[misc]
    """The image feature of `datasets`, read by `read_image`: RGB, the right way up, and an error that names the image.

    In what is written to disk it is that library's own, so that anyone can read it.
    """

    folder: str | None = None  # the folder that paths have to stay in; None: no path is opened, images come as bytes
    errors: Errors = "raise"  # "skip": an image that cannot be read is None, and a warning names it

    def encode_example(self, value: Any) -> Any:
        """As it is kept. Bytes stay bytes, whatever lies at the path that they came with."""
        return value if isinstance(value, (dict, Image)) else super().encode_example(value)

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Image | None:
        if not isinstance(value, dict):  # it was read already
            return value
        try:
            return self.read(value)
        except InputError as error:
            if self.errors == "raise":
                raise
            warnings.warn(f"skipped: {str(error).splitlines()[0]}", stacklevel=2)
            return None

    def read(self, value: dict[str, Any]) -> Image:
        """The image. Raises InputError, naming it."""
        path, content = value["path"], value["bytes"]
        if content is not None:
            return read_image(content, path or "an image")
        if self.folder is None or path is None:
            raise InputError(f"{path or 'an image'} has no bytes\nits file should hold the images themselves, not their paths")
        return read_image(Path(located(self.folder, path)))


def located(folder: str, path: str) -> str:
    """Where a path that a table gives leads, from the folder of the table. Raises InputError where it leaves that folder.

    >>> located("/data", "cats/1.jpg")
    '/data/cats/1.jpg'
    """
    whole = os.path.normpath(os.path.join(folder, path))
    if not whole.startswith(os.path.join(folder, "")):
        raise InputError(f"{path[:200]!r} does not lie below {folder}\ngive paths relative to the file that lists them")
    return whole
