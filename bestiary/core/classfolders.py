"""Folders of one's own that hold images or sounds: a folder for each class, tables of paths, and what `datasets` has saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bestiary.core import tables
from bestiary.core.tables import LABEL, SPLITS, Files
from bestiary.errors import InputError

if TYPE_CHECKING:
    from bestiary.core.media import Medium
    from bestiary.core.tables import Rows

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of `datasets` leaves in a folder


class Opened(NamedTuple):
    """The rows of a split, as yet without anything done to their images or sounds."""

    rows: Rows
    folder: str | None = None  # where paths in them lead from, and may not leave
    others: Callable[[], list[Rows]] = list  # the rows of the other splits, which may hold other classes


def open_tables(splits: Mapping[str, Files], path: str, split: str, *, streaming: bool) -> Opened:
    """The rows of tables; only those that may hold what they list themselves are worth a stream."""

    def rows(name: str) -> Rows:
        files = splits[name]
        return tables.open_rows(files, name, streaming=streaming and files.format == "parquet")

    files = tables.pick_split(splits, split, path)
    folder = os.path.abspath(os.path.dirname(files.names[0]))
    return Opened(rows(split), folder, lambda: [rows(other) for other in splits if other != split])


def tables_in(place: Path, names: Collection[str], path: str) -> dict[str, Files]:
    """The tables of a folder by split, of the files in it; those at its top, where there are any. Raises InputError."""
    listed = [name for name in names if name.lower().endswith(TABLES)]
    beside = [name for name in listed if "/" not in name]
    splits = tables.by_split(beside or listed, path)
    return {name: Files(form, tuple(str(place / file) for file in found)) for name, (form, found) in splits.items()}


def is_saved(place: Path) -> bool:
    """Whether `datasets` has saved rows in this folder."""
    return any((place / name).is_file() for name in _SAVED)


def open_saved(place: Path, path: str, split: str) -> Opened:
    """The rows that `datasets` has saved in a folder. Raises InputError."""
    import datasets

    try:
        saved = datasets.load_from_disk(str(place))
    except Exception as error:  # whatever Arrow and the disk raise
        raise InputError(f"{path} cannot be read as a saved data set: {str(error)[:100]}\nsave it again") from error
    splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
    return Opened(tables.pick_split(splits, split, path), os.path.abspath(place))


def open_classes(place: Path, names: list[str], path: str, split: str, kind: type[Medium]) -> Opened:
    """The files in a folder, of these names, with the folders that they lie in as their classes. Raises InputError."""
    from datasets import ClassLabel, Dataset, Features, Value

    splits = by_class(names, path)
    rows = tables.pick_split(splits, split, path)
    folder = os.path.abspath(place)
    classes = sorted({name for found in splits.values() for _, name in found if name is not None})
    columns: dict[str, list[object]] = {kind.column: [os.path.join(folder, file) for file, _ in rows]}
    features = Features({kind.column: Value("string")})
    if classes:
        _check_filled(place, splits, classes, path, kind.thing)
    if rows[0][1] is not None:
        numbers = {name: number for number, name in enumerate(classes)}
        columns[LABEL] = [numbers[name] for _, name in rows if name is not None]
        features[LABEL] = ClassLabel(names=classes)
    return Opened(Dataset.from_dict(columns, features).cast_column(kind.column, kind(folder=folder)))


def _check_filled(place: Path, splits: Iterable[str], names: Collection[str], path: str, thing: str) -> None:
    """Raise InputError for a folder among those of the classes that has nothing in it."""
    known = {*splits}
    tops = [one for one in place.iterdir() if one.is_dir() and not one.name.startswith((".", "__MACOSX"))]
    inner = [folder for top in tops if SPLITS.get(top.name.lower()) in known for folder in top.iterdir() if folder.is_dir()]
    folders = inner if not {top.name for top in tops} & {*names} else tops
    if empty := sorted(folder.name for folder in folders if folder.name not in names and not any(folder.iterdir())):
        what = thing.partition(" ")[2]
        raise InputError(f"{path}: there is no {what} of the class {empty[0]!r}\nput some into its folder, or remove it")


def by_class(files: Iterable[str], whose: str) -> dict[str, list[tuple[str, str | None]]]:
    """Each file with its class, by split. A class is a folder; folders that are all called as splits hold one split each.

    >>> by_class(["train/cat/1.jpg", "val/cat/2.jpg"], "pets")["validation"]
    [('val/cat/2.jpg', 'cat')]
    >>> by_class(["car/1.jpg", "train/2.jpg"], "vehicles")
    {'train': [('car/1.jpg', 'car'), ('train/2.jpg', 'train')]}

    Files that lie in no folder of a class have None. Raises InputError where some do and some do not.
    """
    parts = {file: file.split("/") for file in files}
    of_splits = all(len(part) > 1 and part[0].lower() in SPLITS for part in parts.values())
    splits: dict[str, list[tuple[str, str | None]]] = {}
    for file, part in parts.items():
        inside = part[1:] if of_splits else part
        found = splits.setdefault(SPLITS[part[0].lower()] if of_splits else "train", [])
        found.append((file, inside[0] if len(inside) > 1 else None))
    for found in splits.values():
        if len({name is None for _, name in found}) > 1:
            stray = next(file for file, name in found if name is None)
            raise InputError(f"{whose}: {stray} lies beside the folders of classes\nmove it into the one it belongs to")
    return splits


def names_below(folder: Path) -> Iterator[str]:
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
