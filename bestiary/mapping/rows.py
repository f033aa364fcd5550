"""Rows of tables by number, of more tables than fit into memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bestiary.core import tables
from bestiary.core.table_faults import explained
from bestiary.core.tables import Files
from bestiary.errors import InputError


class Rows(ABC):
    """Numbered rows, and the columns that they have."""

    schema: pa.Schema

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, stop: int) -> pa.Table:
        """Those from one number to before another."""


class ConvertedRows(Rows):
    """Rows of csv, tsv, jsonl or txt, which `datasets` converts to Arrow once on each machine, in its cache."""

    def __init__(self, files: Files):
        self.files = files
        self.schema = self._opened.features.arrow_schema.remove_metadata()

    def __len__(self) -> int:
        return len(self._opened)

    def read(self, start: int, stop: int) -> pa.Table:
        return self._opened[start:stop].cast(self.schema)

    @cached_property
    def _opened(self) -> Any:
        return tables.open_rows(self.files, "train").with_format("arrow")

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "schema": self.schema}


class Group(NamedTuple):
    """A row group of a parquet file: the rows that are read from it at once."""

    file: str
    number: int
    first: int  # the number of its first row among all


class ParquetRows(Rows):
    """Rows of parquet files, read where they lie. The row group that was read last is kept."""

    def __init__(self, files: Files):
        schemas, self.groups, self.count = [], list[Group](), 0
        try:
            for name in files.names:
                with pq.ParquetFile(name) as file:
                    schemas.append(file.schema_arrow.remove_metadata())
                    for number in range(file.num_row_groups):
                        self.groups.append(Group(name, number, self.count))
                        self.count += file.metadata.row_group(number).num_rows
            self.schema = pa.unify_schemas(schemas, promote_options="default")
        except (pa.ArrowException, OSError) as error:
            raise explained(error, files.names[0], files.names, "parquet") from error
        if not self.count:
            raise InputError(f"{files.names[0]} holds no rows\ngive a file that does")
        self._last: tuple[Group, pa.Table] | None = None

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> pa.Table:
        at = bisect_right([group.first for group in self.groups], start) - 1
        parts: list[pa.Table] = [self.schema.empty_table()]
        for group in self.groups[at:]:
            if group.first >= stop:
                break
            offset = max(0, start - group.first)
            parts.append(self._read(group).slice(offset, stop - group.first - offset))
        return pa.concat_tables(parts, promote_options="default")  # some files may lack columns that others have

    def _read(self, group: Group) -> pa.Table:
        if self._last is None or self._last[0] != group:
            try:
                with pq.ParquetFile(group.file) as file:
                    self._last = group, file.read_row_group(group.number)
            except (pa.ArrowException, OSError) as error:
                raise explained(error, group.file, [group.file], "parquet") from error
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}


def open_rows(files: Files) -> Rows:
    """The rows of these files. Raises InputError, DiskFullError."""
    return ParquetRows(files) if files.format == "parquet" else ConvertedRows(files)
