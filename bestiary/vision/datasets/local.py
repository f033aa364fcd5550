"""Images of one's own: folders of classes, tables of paths, annotated scenes, tars, and what `datasets` has saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bestiary.core import tables
from bestiary.core.tables import LABEL, SPLITS, Files
from bestiary.errors import InputError
from bestiary.vision.datasets.formats import IMAGE, scene_columns
from bestiary.vision.datasets.scenes import annotations_in, read_annotated
from bestiary.vision.datasets.webdataset import TARS, open_tars
from bestiary.vision.folder import endings

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of `datasets` leaves in a folder


class Opened(NamedTuple):
    """The rows of a split, as yet without anything done to their images."""

    rows: Rows
    folder: str | None = None  # where paths in them lead from, and may not leave
    others: Callable[[], list[Rows]] = list  # the rows of the other splits, which may hold other classes


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


def open_tables(splits: Mapping[str, Files], path: str, split: str, *, streaming: bool) -> Opened:
    """The rows of tables; only those that may hold the images themselves are worth a stream."""

    def rows(name: str) -> Rows:
        files = splits[name]
        return tables.open_rows(files, name, streaming=streaming and files.format == "parquet")

    files = tables.pick_split(splits, split, path)
    folder = os.path.abspath(os.path.dirname(files.names[0]))
    return Opened(rows(split), folder, lambda: [rows(other) for other in splits if other != split])


def _open_folder(place: Path, path: str, split: str, streaming: bool) -> Opened:
    if any((place / name).is_file() for name in _SAVED):
        return _of_saved(place, path, split)
    names = sorted(_files_below(place))
    if annotations := annotations_in(names, path):
        return _of_scenes(place, names, annotations, path, split)
    listed = [name for name in names if name.lower().endswith(TABLES)]
    beside = [name for name in listed if "/" not in name]
    images = [name for name in names if name.lower().endswith(endings())]
    tars = [name for name in names if name.lower().endswith(TARS)]
    if beside or (listed and not images):
        splits = tables.by_split(beside or listed, path)
        files = {name: Files(form, tuple(str(place / file) for file in found)) for name, (form, found) in splits.items()}
        return open_tables(files, path, split, streaming=streaming)
    if images:
        return _of_classes(place, images, path, split)
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


def _of_saved(place: Path, path: str, split: str) -> Opened:
    import datasets

    try:
        saved = datasets.load_from_disk(str(place))
    except Exception as error:  # whatever Arrow and the disk raise
        raise InputError(f"{path} cannot be read as a saved data set: {str(error)[:100]}\nsave it again") from error
    splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
    return Opened(tables.pick_split(splits, split, path), os.path.abspath(place))


def _of_classes(place: Path, images: list[str], path: str, split: str) -> Opened:
    from datasets import ClassLabel, Dataset, Features, Value

    from bestiary.vision.datasets.picture import Picture

    splits = by_class(images, path)
    rows = tables.pick_split(splits, split, path)
    folder = os.path.abspath(place)
    names = sorted({name for found in splits.values() for _, name in found if name is not None})
    columns: dict[str, list[object]] = {IMAGE: [os.path.join(folder, image) for image, _ in rows]}
    features = Features({IMAGE: Value("string")})
    if names:
        _check_filled(place, splits, names, path)
    if rows[0][1] is not None:
        numbers = {name: number for number, name in enumerate(names)}
        columns[LABEL] = [numbers[name] for _, name in rows if name is not None]
        features[LABEL] = ClassLabel(names=names)
    return Opened(Dataset.from_dict(columns, features).cast_column(IMAGE, Picture(folder=folder)))


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


def _check_filled(place: Path, splits: Iterable[str], names: Collection[str], path: str) -> None:
    """Raise InputError for a folder among those of the classes that has nothing in it."""
    known = {*splits}
    tops = [one for one in place.iterdir() if one.is_dir() and not one.name.startswith((".", "__MACOSX"))]
    inner = [folder for top in tops if SPLITS.get(top.name.lower()) in known for folder in top.iterdir() if folder.is_dir()]
    folders = inner if not {top.name for top in tops} & {*names} else tops
    if empty := sorted(folder.name for folder in folders if folder.name not in names and not any(folder.iterdir())):
        raise InputError(f"{path}: there is no image of the class {empty[0]!r}\nput some into its folder, or remove it")


def by_class(images: Iterable[str], whose: str) -> dict[str, list[tuple[str, str | None]]]:
    """Each image with its class, by split. A class is a folder; folders that are all called as splits hold one split each.

    >>> by_class(["train/cat/1.jpg", "val/cat/2.jpg"], "pets")["validation"]
    [('val/cat/2.jpg', 'cat')]
    >>> by_class(["car/1.jpg", "train/2.jpg"], "vehicles")
    {'train': [('car/1.jpg', 'car'), ('train/2.jpg', 'train')]}

    Images that lie in no folder of a class have None. Raises InputError where some do and some do not.
    """
    parts = {image: image.split("/") for image in images}
    of_splits = all(len(part) > 1 and part[0].lower() in SPLITS for part in parts.values())
    splits: dict[str, list[tuple[str, str | None]]] = {}
    for image, part in parts.items():
        inside = part[1:] if of_splits else part
        found = splits.setdefault(SPLITS[part[0].lower()] if of_splits else "train", [])
        found.append((image, inside[0] if len(inside) > 1 else None))
    for found in splits.values():
        if len({name is None for _, name in found}) > 1:
            stray = next(image for image, name in found if name is None)
            raise InputError(f"{whose}: {stray} lies beside the folders of classes\nmove it into the one it belongs to")
    return splits


def _files_below(folder: Path) -> Iterator[str]:
    """The files below a folder, relative to it; hidden ones are left out, links to folders are followed once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith((".", "__MACOSX"))]
        if real in seen:
            continue
        seen.add(real)
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        yield from (name if inside == "." else f"{inside}/{name}" for name in names if not name.startswith("."))
