"""What there is to map: a folder of files, or the rows of tables; in either case numbered, and read by number."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bestiary.core import tables
from bestiary.core.folder import files_below
from bestiary.core.tables import SUFFIXES, Files
from bestiary.errors import InputError
from bestiary.mapping.media import MEDIA, Medium, holds_bytes
from bestiary.mapping.rows import Rows, open_rows

PATH, ROW = "path", "row"  # what tells inputs apart: files by their path in the folder, rows by their number, from 0
TABLES = tuple(suffix for suffix in SUFFIXES if suffix != ".txt")  # in a folder, where a .txt is one text


class Block(NamedTuple):
    """Neighbouring inputs: what is kept of them, where each is to be read, and how to name each."""

    kept: pa.Table
    cells: Sequence[Any]
    names: Sequence[dict[str, Any]]


class Inputs(ABC):
    """Numbered inputs. They are sent to other processes, which open what they read."""

    kept: pa.Schema  # the columns of a block that go into the output
    medium: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, stop: int) -> Block:
        """Those from one number to before another."""

    @abstractmethod
    def open(self, cell: Any) -> Any:
        """What a task takes, of a cell of a block. Raises InputError."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells whether two runs have the same inputs, in plain values."""


class FileInputs(Inputs):
    """Each file of a folder is an input."""

    kept = pa.schema([(PATH, pa.string())])

    def __init__(self, folder: Path, paths: Iterable[Path], medium: str):
        self.folder = folder
        self.paths = [path.relative_to(folder).as_posix() for path in paths]
        self.medium = medium

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, start: int, stop: int) -> Block:
        paths = self.paths[start:stop]
        return Block(pa.table({PATH: paths}, schema=self.kept), paths, [{PATH: path} for path in paths])

    def open(self, cell: str) -> Any:
        return MEDIA[self.medium].of_file(self.folder / cell)

    def identity(self) -> dict[str, Any]:
        return {"path": str(self.folder), "count": len(self), "sha256": fingerprint(self.folder, self.paths)}


class TableInputs(Inputs):
    """Each row is an input: the cells of one column, or of several as a tuple.

    `folder` is where paths in cells lead from, and may not leave. A column of images as bytes is not kept, the number of the row
    is instead.
    """

    def __init__(self, path: Path, files: Sequence[str], rows: Rows, columns: Sequence[str], medium: str):
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self.files = files
        self.rows = rows
        self.columns = tuple(columns)
        self.medium = medium
        fields = [field for field in rows.schema if field.name not in columns or not holds_bytes(field.type)]
        numbered = len(fields) < len(rows.schema) and ROW not in rows.schema.names
        self.kept = pa.schema([*([pa.field(ROW, pa.int64())] if numbered else []), *fields])

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> Block:
        table = self.rows.read(start, stop)
        cells = list(zip(*(table.column(name).to_pylist() for name in self.columns), strict=True))
        numbers = range(start, start + len(table))
        if ROW not in table.column_names:
            table = table.append_column(ROW, pa.array(numbers, pa.int64()))
        return Block(table.select(self.kept.names).cast(self.kept), cells, [{ROW: number} for number in numbers])

    def open(self, cell: Sequence[Any]) -> Any:
        values = tuple(MEDIA[self.medium].of_cell(part, str(self.folder)) for part in cell)
        return values if len(values) > 1 else values[0]

    def identity(self) -> dict[str, Any]:
        seen = fingerprint(self.folder, self.files)
        return {"path": str(self.path), "columns": list(self.columns), "count": len(self), "sha256": seen}


def open_inputs(path: str | os.PathLike[str], columns: Sequence[str], forms: Sequence[Sequence[str]], medium: str) -> Inputs:
    """The inputs at a path, for a task that takes this medium, in one of these forms (see `bestiary.core.task.Task`).

    A folder that holds such files is one of files, unless `columns` are given. Everything else is taken for tables: a folder of
    them, one file, or a pattern such as data/*.parquet. Raises InputError.
    """
    place, kind = Path(os.path.abspath(Path(path).expanduser())), MEDIA[medium]
    whole = [form for form in forms if len(form) == 1]
    if place.is_dir() and not columns and whole and (files := files_below(place, kind.endings())):
        return FileInputs(place, files, medium)
    if place.is_dir() and not files_below(place, TABLES):
        raise InputError(f"there are no {kind.plural} in {path}\ngive a folder of {kind.plural}, or tables: {', '.join(TABLES)}")
    found = _tables(place)
    rows = open_rows(found)
    columns = tuple(columns) or tuple(forms[0])
    _check(rows.schema, columns, forms, kind, str(path))
    return TableInputs(place, found.names, rows, columns, medium)


def fingerprint(folder: Path, files: Iterable[str]) -> str:
    """A digest of names, sizes and times of change of files; of their content would take as long as mapping does."""
    digest = sha256()
    for name in files:
        state = (folder / name).stat()
        digest.update(f"{os.path.relpath(folder / name, folder)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _tables(place: Path) -> Files:
    if not place.is_dir():
        return tables.find_files(str(place))["train"]
    names = tuple(map(str, files_below(place, TABLES)))
    return Files(tables.format_of(names, str(place)), names)


def _check(schema: pa.Schema, columns: Sequence[str], forms: Sequence[Sequence[str]], kind: Medium, whose: str) -> None:
    if len(columns) not in map(len, forms):
        wanted = " or ".join(" and ".join(form) for form in forms)
        raise InputError(f"the model takes {wanted}, not {len(columns)} columns\ngive a column for each part of an input")
    for name in columns:
        if name not in schema.names:
            raise InputError(f"{whose} has no column {name!r}\nname one with --column: {', '.join(schema.names)}")
        if not kind.fits(schema.field(name).type):
            raise InputError(f"column {name!r} of {whose} holds {schema.field(name).type}\nwanted: {kind.kinds}")
