"""Tars in the form of webdataset: the files of a sample stand together and are called the same but for the ending.

`cats/07.jpg` with `cats/07.cls`, a number, or `cats/07.json`, an object whose `label` is one; `cats/07.txt` may tell what it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bestiary.core.archives import members
from bestiary.core.generated import generated
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.vision.datasets.formats import IMAGE

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

TARS = (".tar", ".tar.gz", ".tgz")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")

KEY = "__key__"  # what the names of a sample's files have in common, as webdataset calls it
_KEPT = (*(image[1:] for image in SUFFIXES), "cls", "json", "txt")


def open_tars(paths: Sequence[str], split: str, *, streaming: bool) -> Rows:
    """The rows of tars: `__key__`, `image`, and what the first sample has of `label`, `text` and `json` (as text).

    Raises InputError for a tar that holds no sample or is damaged, and, when it gets there, for a sample unlike the first.
    """
    from datasets import Value

    from bestiary.vision.datasets.picture import Picture

    first = next(_rows(paths[0], None), None)
    if first is None:
        raise InputError(f"{paths[0]} holds no images\nwanted: files such as 0001.jpg and 0001.cls, side by side")
    kinds = {KEY: Value("string"), IMAGE: Picture(), LABEL: Value("int64"), "text": Value("string"), "json": Value("string")}
    features = {name: kinds[name] for name in first}
    shards = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths]
    return generated(_shard_rows, features, split, streaming=streaming, shards=shards, columns=tuple(first))


def _shard_rows(shards: list[tuple[str, int, int]], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for path, *_ in shards:
        yield from _rows(path, columns)


def _rows(path: str, columns: tuple[str, ...] | None) -> Iterator[dict[str, Any]]:
    kept = ((*_parts(name), name, read()) for name, read in members(path) if _parts(name)[1] in _KEPT)
    for key, files in groupby(kept, key=lambda file: file[0]):
        row = _row(path, key, {ending: (name, content) for _, ending, name, content in files})
        if columns is not None and set(row) != set(columns):
            odd = sorted(set(row) ^ set(columns))[0]
            raise InputError(f"{path}: sample {key!r} differs from the first one in {odd!r}\ngive all samples the same files")
        yield row


def _parts(name: str) -> tuple[str, str]:
    """Key and ending: all before and all after the first dot of the file's own name."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _row(path: str, key: str, files: dict[str, tuple[str, bytes]]) -> dict[str, Any]:
    image = next((files[ending[1:]] for ending in SUFFIXES if ending[1:] in files), None)
    if image is None:
        raise InputError(f"{path}: sample {key!r} has no image\nknown are {', '.join(SUFFIXES)}")
    row: dict[str, Any] = {KEY: key, IMAGE: {"path": f"{path}/{image[0]}", "bytes": image[1]}}
    try:
        texts = {ending: files[ending][1].decode() for ending in ("cls", "json", "txt") if ending in files}
        told = json.loads(texts["json"]) if "json" in texts else None
        if "cls" in texts:
            row[LABEL] = int(texts["cls"])
        elif isinstance(told, dict) and isinstance(told.get(LABEL), int):
            row[LABEL] = told[LABEL]
    except ValueError as error:
        raise InputError(f"{path}: sample {key!r}: {str(error)[:100]}\nwanted: a number in .cls, an object in .json") from error
    row |= {column: texts[ending] for column, ending in (("text", "txt"), ("json", "json")) if ending in texts}
    return row
