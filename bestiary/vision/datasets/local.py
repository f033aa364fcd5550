"""Images of one's own: folders of classes, tables of paths, annotated scenes, tars, and what `datasets` has saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bestiary.core import tables
from bestiary.core.classfolders import TABLES, Opened, is_saved, names_below, open_classes, open_saved, open_tables, tables_in
from bestiary.errors import InputError
from bestiary.vision.datasets.formats import IMAGE, scene_columns
from bestiary.vision.datasets.scenes import annotations_in, read_annotated
from bestiary.vision.datasets.webdataset import TARS, open_tars
from bestiary.vision.folder import endings


def open_path(path: str, split: str, *, streaming: bool) -> Opened:
    """The rows at a path: of a file, of those that a pattern finds, or of a folder. Raises InputError."""
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_folder(place, path, split, streaming)
    if not path.lower().endswith(TARS):
        return open_tables(tables.find_files(path), path, split, streaming=streaming)
    found = [place] if place.is_file() else [tar for tar in sorted(place.parent.glob(place.name)) if tar.is_file()]
    if not found:
        raise InputError(f"there is no file {path}\ngive a file, a folder, or a pattern such as shards/*.tar")
    shards = tables.pick_split({"train": [str(tar) for tar in found]}, split, path)
    return Opened(open_tars(shards, split, streaming=streaming))


def _open_folder(place: Path, path: str, split: str, streaming: bool) -> Opened:
    if is_saved(place):
        return open_saved(place, path, split)
    names = sorted(names_below(place))
    if annotations := annotations_in(names, path):
        return _of_scenes(place, names, annotations, path, split)
    listed = [name for name in names if name.lower().endswith(TABLES)]
    beside = [name for name in listed if "/" not in name]
    images = [name for name in names if name.lower().endswith(endings())]
    tars = [name for name in names if name.lower().endswith(TARS)]
    if beside or (listed and not images):
        return open_tables(tables_in(place, names, path), path, split, streaming=streaming)
    if images:
        from bestiary.vision.datasets.picture import Picture

        return open_classes(place, images, path, split, Picture)
    if tars:
        shards = tables.pick_split(tars_by_split(tars), split, path)
        return Opened(open_tars([str(place / shard) for shard in shards], split, streaming=streaming))
    raise InputError(f"{path} holds no images\nwanted: a folder of images for each class, a table of their paths, or tars")


def tars_by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """Tars by the split that their names or their folders' names tell; `train` where they tell none."""
    shards: dict[str, list[str]] = {}
    for name in names:
        shards.setdefault(tables.split_of(name) or "train", []).append(name)
    return shards


def _of_scenes(place: Path, names: list[str], annotations: Mapping[str, str], path: str, split: str) -> Opened:
    from datasets import ClassLabel, Dataset, Features, Value

    from bestiary.vision.datasets.picture import Picture

    folder = os.path.abspath(place)
    found = read_annotated(folder, names, annotations, split, path)
    features = Features({IMAGE: Value("string"), **scene_columns(ClassLabel(names=list(found.classes)))})
    rows = Dataset.from_list(
        [{IMAGE: image, **columns} for image, columns in zip(found.images, found.columns, strict=True)], features
    )
    return Opened(rows.cast_column(IMAGE, Picture(folder=folder)))
