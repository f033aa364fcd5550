"""Rows in files: csv, tsv, jsonl, parquet and txt, opened by Hugging Face `datasets` as Arrow tables mapped into memory.

Which files there are and which split each belongs to is decided here; how they are read is left to that library. Files are
converted to Arrow once, in its own cache (HF_DATASETS_CACHE), a few megabytes at a time: rows are never all in memory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from bestiary.core.table_faults import explained
from bestiary.errors import InputError

if TYPE_CHECKING:
    import datasets

    Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset

LABEL = "label"  # the column whose numbers stand for names

SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}
# What `datasets` calls them, and with which options. A text may well be "NA" or "null": in csv only nothing is nothing.
_TEXT_CELLS = {"keep_default_na": False, "na_values": [""]}
_BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("csv", _TEXT_CELLS),
    "tsv": ("csv", {**_TEXT_CELLS, "sep": "\t"}),
    "jsonl": ("json", {}),
    "parquet": ("parquet", {}),
    "txt": ("text", {}),
}
SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}
_WORDS = re.compile(r"[^\W\d_]+")
_PATTERN = re.compile(r"[*?\[]")

Found = TypeVar("Found")


class UnknownSplit(InputError):
    """A data set has no split of that name."""


class Files(NamedTuple):
    """The files of one split, all of one format."""

    format: str
    names: tuple[str, ...]


def find_files(path: str) -> dict[str, Files]:
    """The files by split: of a folder as their names say, of one file or of a pattern such as `data/*.csv` all in `train`.

    Raises InputError where there are none, and as `by_split` does.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        names = [found.relative_to(place).as_posix() for found in sorted(place.rglob("*")) if found.is_file()]
        splits = by_split(names, path)
        return {split: Files(form, tuple(str(place / name) for name in names)) for split, (form, names) in splits.items()}
    if place.is_file():
        return {"train": Files(format_of([place.name], path), (str(place),))}
    if not _PATTERN.search(place.name):
        raise InputError(f"there is no file or folder {path}\ngive a file, a folder, or a pattern such as data/*.csv")
    matches = [str(found) for found in sorted(place.parent.glob(place.name)) if found.is_file()]
    if not matches:
        raise InputError(f"no file matches {path}\ncheck the pattern")
    return {"train": Files(format_of(matches, path), tuple(matches))}


def by_split(names: Iterable[str], whose: str) -> dict[str, Files]:
    """The files of rows among `names`, paths in a folder, by the split that their names or their folders' names tell.

    Where none of them tells one, all are `train`; where some do, the others are left alone.

    >>> by_split(["data/train-00.csv", "data/val.csv", "README.md"], "reviews")["validation"]
    Files(format='csv', names=('data/val.csv',))

    Raises InputError where there are none, where the files of a split have several formats or lie in several folders.
    """
    rows = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES and not _hidden(name)]
    if not rows:
        raise InputError(f"{whose} holds no file of rows\nknown are {', '.join(SUFFIXES)}")
    splits: dict[str, list[str]] = {}
    for name in rows:
        if split := split_of(name):
            splits.setdefault(split, []).append(name)
    splits = splits or {"train": rows}
    for split, found in splits.items():
        folders = sorted({str(PurePosixPath(name).parent) for name in found})
        if len(folders) > 1:
            where = ", ".join(folders[:5])
            raise InputError(f"{whose} holds several data sets: {split} lies in {where}\ngive one of these folders")
    return {split: Files(format_of(found, whose), tuple(found)) for split, found in splits.items()}


def open_rows(files: Files, split: str, *, streaming: bool = False, columns: Sequence[str] | None = None) -> Rows:
    """The rows of these files, memory-mapped, or read as one goes where `streaming`.

    Raises InputError for files that are empty or not of their format, which names the line where it can, and for a column
    that is not there; DiskFullError. What is wrong far down a stream is met when the stream gets there, as an error of
    `datasets`.
    """
    import datasets

    builder, options = _BUILDERS[files.format]
    paths = {split: [re.sub(r"([*?\[])", r"[\1]", name) for name in files.names]}  # `datasets` would take them for patterns
    try:
        with quiet():
            rows = datasets.load_dataset(builder, data_files=paths, split=split, streaming=streaming, **options)
            if streaming and rows.features:
                rows = rows.decode(False)  # images and sounds stay as they lie until somebody casts them
            empty = next(iter(rows), None) is None if streaming else len(rows) == 0
    except Exception as error:  # its own, and whatever pandas, Arrow and the disk raise
        raise explained(error, _named(files), files.names, files.format) from error
    if empty:
        raise InputError(f"{_named(files)} holds no rows\ngive a file that does")
    return pick_columns(rows, columns, _named(files))


def name_columns(rows: Rows, columns: Mapping[str, str], labels: Sequence[str] | None) -> Rows:
    """The rows with columns called as a card calls them (our name → theirs), and names for the numbers in `label`."""
    from datasets import ClassLabel, List

    rows = rows.rename_columns({theirs: ours for ours, theirs in columns.items()})
    if labels and rows.features and LABEL in rows.features:
        kind = ClassLabel(names=list(labels))
        rows = rows.cast_column(LABEL, List(kind) if isinstance(rows.features[LABEL], List) else kind)
    return rows


def renamed(rows: Rows, columns: Mapping[str, str], whose: str) -> Rows:
    """The rows with columns called as ours, in place of what is called so: our name → theirs. Raises InputError."""
    there = column_names(rows)
    for ours, theirs in columns.items():
        if theirs == ours:
            continue
        if theirs not in there:
            raise InputError(f"{whose} has no column {theirs!r}\nits columns: {', '.join(there)}")
        rows = (rows.remove_columns(ours) if ours in there else rows).rename_column(theirs, ours)
    return rows


def where(rows: Rows, conditions: Sequence[str], whose: str) -> Rows:
    """The rows that hold what is asked for, each as `column=value`; classes are given by their names.

    Raises InputError for a column that is not there, and where no row is left.
    """
    for condition in conditions:
        column, equals, value = condition.partition("=")
        there = column_names(rows)
        if not equals or column not in there:
            raise InputError(f"{whose} cannot be searched for {condition!r}\ngive column=value; its columns: {', '.join(there)}")
        name_of = getattr((rows.features or {}).get(column), "int2str", str)
        kept = [number for number, held in enumerate(rows[column]) if name_of(held) == value]
        if not kept:
            raise InputError(f"{whose} has no row with {condition}\ngive another value")
        rows = rows.select(kept)
    return rows


def pick_split(splits: Mapping[str, Found], split: str, whose: str) -> Found:
    """What belongs to a split. Raises UnknownSplit, which lists those there are."""
    if split not in splits:
        raise UnknownSplit(f"{whose} has no split {split!r}\nits splits: {', '.join(splits)}")
    return splits[split]


def pick_columns(rows: Rows, columns: Sequence[str] | None, whose: str) -> Rows:
    """The rows with only these columns (all, where None). Raises InputError naming a column that is not there."""
    if columns is None:
        return rows
    there = column_names(rows)
    if missing := [name for name in columns if name not in there]:
        raise InputError(f"{whose} has no column {missing[0]!r}\nits columns: {', '.join(there)}")
    return rows.select_columns(list(columns))


def column_names(rows: Rows) -> list[str]:
    """The columns of rows or of a stream; a stream whose columns nothing tells beforehand shows them in its first row."""
    return list(rows.column_names or next(iter(rows), {}))


@contextmanager
def quiet() -> Iterator[None]:
    """While `datasets` is at work: progress bars where a person watches, and no log of what is raised anyway."""
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def split_of(name: str) -> str | None:
    """The split that a path tells: what the file's name says, or else the name of the nearest folder that says anything.

    >>> split_of("data/val-00.csv")
    'validation'
    """
    path = PurePosixPath(name)
    for part in (path.stem, *reversed(path.parts[:-1])):
        for word in _WORDS.findall(part.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return None


def format_of(names: Sequence[str], whose: str) -> str:
    """The one format of files. Raises InputError for one that is not known, and for several."""
    formats = {PurePosixPath(name).suffix.lower(): name for name in names}
    for suffix, name in formats.items():
        if suffix not in SUFFIXES:
            raise InputError(f"{name} has no known format\nknown are {', '.join(SUFFIXES)}")
    if len({SUFFIXES[suffix] for suffix in formats}) > 1:
        raise InputError(f"{whose} mixes formats: {', '.join(formats.values())}\ngive files of one")
    return SUFFIXES[next(iter(formats))]


def _named(files: Files) -> str:
    return files.names[0] if len(files.names) == 1 else f"{files.names[0]} with {len(files.names) - 1} more"
