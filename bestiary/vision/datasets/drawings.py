"""OpenMoji as images: its drawings, rendered once for each size and kept as pixels."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bestiary.core.generated import Source, generated
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.hub.emoji import read_emoji
from bestiary.vision.datasets.formats import IMAGE, bare
from bestiary.vision.images import read_image

if TYPE_CHECKING:
    from bestiary.core.tables import Rows
    from bestiary.hub.dataset import DatasetCard

SIZE = 64  # pixels of a side, where none is asked for
LARGEST = 2048


def open_emoji(card: DatasetCard, source: Source, size: int, *, streaming: bool) -> Rows:
    """The emoji of a split and their drawings, `size` × `size` pixels on white; `label` is the group.

    Raises InputError for a size that cannot be drawn, or where resvg-py is missing.
    """
    from datasets import ClassLabel, Value

    from bestiary.vision.datasets.picture import Picture

    if not isinstance(size, int) or not 1 <= size <= LARGEST:
        raise InputError(f"a drawing of {size!r} pixels cannot be made\ngive a size from 1 to {LARGEST}")
    subgroups = dict.fromkeys(one.subgroup for one in read_emoji(Path(source.paths[0])))
    text = Value("string")
    features = {
        IMAGE: Picture(), "text": text, LABEL: ClassLabel(names=list(card.labels or ())),
        "subgroup": ClassLabel(names=list(subgroups)), "emoji": text, "code": text, "concept": text,
    }  # fmt: skip
    return generated(_rows, features, source.split, streaming=streaming, source=source, size=size)


def render(svg: str, size: int, name: str = "the drawing") -> np.ndarray:
    """A drawing as uint8 pixels (size, size, 3) on white. Raises InputError where it is none, or resvg-py is missing."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise InputError(f"{name} is drawn by resvg-py, which is not installed\npip install 'bestiary[images]'") from None
    try:
        png = svg_to_bytes(svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True)
    except ValueError as error:
        raise InputError(f"{name} is not an SVG that can be drawn: {str(error)[:100]}\ngive another") from error
    return np.asarray(read_image(bytes(png), name))


def _rows(source: Source, size: int) -> Iterator[dict[str, Any]]:
    table, wheel = source.paths
    with zipfile.ZipFile(wheel) as archive:
        for one in read_emoji(Path(table)):
            if one.split == source.split:
                yield {IMAGE: bare(render(archive.read(one.drawing).decode(), size, one.drawing)), **one.row()}
