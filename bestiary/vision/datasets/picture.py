"""The column of images: kept as files or bytes, read when a row is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
from PIL.Image import Image

from bestiary.core.media import Medium
from bestiary.vision.datasets.formats import IMAGE
from bestiary.vision.images import read_image


@dataclass
class Picture(Medium, datasets.Image):  # type: ignore[misc]
    """The image feature of `datasets`, read by `read_image`: RGB, the right way up, and an error that names the image."""

    column: ClassVar[str] = IMAGE
    thing: ClassVar[str] = "an image"
    things: ClassVar[str] = "images"
    own: ClassVar[type] = datasets.Image

    def encode_example(self, value: Any) -> Any:
        """As it is kept. Bytes stay bytes, whatever lies at the path that they came with."""
        return value if isinstance(value, (dict, Image)) else super().encode_example(value)

    def decoded(self, content: Path | bytes, name: str) -> Image:
        return read_image(content, name)
