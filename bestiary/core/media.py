"""A column of images or sounds in the rows of Hugging Face `datasets`: kept as files or bytes, read when a row is asked for."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from datasets import ClassLabel, Dataset, Value

from bestiary.core import tables
from bestiary.core.folder import located
from bestiary.core.tables import LABEL
from bestiary.errors import InputError

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

SHARDS = 64  # parts of a table that becomes a stream, for as many workers
SHOWN = 10  # names of what was skipped, in one message


@dataclass
class Medium:
    """A feature of `datasets` that is read by a function of ours, whose errors name the file; to be mixed into its own.

    In what is written to disk it is that library's own, so that anyone can read it.
    """

    column: ClassVar[str]  # what the column is called
    thing: ClassVar[str]  # what messages call one of it, such as "an image"
    things: ClassVar[str]  # and several
    own: ClassVar[type]  # the feature of `datasets` that it stands for

    folder: str | None = None  # the folder that paths have to stay in; None: no path is opened, there are bytes
    errors: Literal["raise", "skip"] = "raise"  # "skip": what cannot be read is None, and a warning names it

    @abstractmethod
    def decoded(self, content: Path | bytes, name: str) -> Any:
        """What a file or its bytes hold. Raises InputError, naming it."""

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        if not isinstance(value, dict) or "bytes" not in value:  # it was read already
            return value
        try:
            return self.read(value)
        except InputError as error:
            if self.errors == "raise":
                raise
            warnings.warn(f"skipped: {str(error).splitlines()[0]}", stacklevel=2)
            return None

    def read(self, value: dict[str, Any]) -> Any:
        """What a cell holds. Raises InputError, naming it."""
        path, content = value["path"], value["bytes"]
        if content is not None:
            return self.decoded(content, path or self.thing)
        if self.folder is None or path is None:
            raise InputError(
                f"{path or self.thing} has no bytes\nits file should hold the {self.things} themselves, not their paths"
            )
        return self.decoded(Path(located(self.folder, path)), path)


def with_media(rows: Rows, kind: Medium, folder: str | None, whose: str) -> Rows:
    """The rows with what paths, which may not leave `folder`, or bytes in the column of `kind` lead to.

    Raises InputError, naming a path that leaves it.
    """
    column, things = kind.column, kind.things
    if column not in (there := tables.column_names(rows)):
        advice = f"{column}= says which holds {things}"
        raise InputError(f"{whose} has no column {column!r}\nits columns: {', '.join(there)}; {advice}")
    found = rows.features[column]
    if isinstance(found, Medium):
        return rows.cast_column(column, replace(kind, folder=found.folder))
    kind = replace(kind, folder=folder)
    if is_text(rows, column):
        if folder is None:
            raise InputError(f"{whose} gives paths of {things}, which its card does not list\nload it from a folder with them")
        return _opened(rows, column, folder, whose).cast_column(column, kind)
    is_bytes = (isinstance(found, Mapping) and "bytes" in found) or getattr(found, "dtype", "") == "binary"
    if not (isinstance(found, kind.own) or is_bytes):
        wanted = f"wanted: paths of {things}, or their bytes; {column}= names the column"
        raise InputError(f"{whose}: {column!r} holds {found}\n{wanted}")
    return rows.cast_column(column, kind)


def with_classes(rows: Rows, others: Callable[[], list[Rows]], column: str, whose: str) -> Rows:
    """The rows with numbers for labels that are texts; `column` of the `others`, the rows of other splits, has more of them."""
    if not is_text(rows, LABEL):
        return rows
    names = _texts(rows, LABEL).union(*(_texts(other, column) for other in others()))
    if None in names:
        raise InputError(f"{whose}: a row has no {LABEL}\ngive every row one, or leave it out")
    return rows.cast_column(LABEL, ClassLabel(names=sorted(filter(None, names))))


def streamed(rows: Rows) -> Rows:
    """The rows one after the other, in parts that the workers of a loader share."""
    return rows.to_iterable_dataset(num_shards=min(len(rows), SHARDS)) if isinstance(rows, Dataset) else rows


def readable(rows: Rows, column: str) -> Rows:
    """The rows whose image or sound can be read; a warning names the others."""
    kind = rows.features[column]
    if not isinstance(rows, Dataset):
        return rows.cast_column(column, replace(kind, errors="skip")).filter(_is_there, input_columns=column)
    skipped: dict[int, str] = {}
    for number, row in enumerate(rows.select_columns(column).cast_column(column, replace(kind, decode=False))):
        try:
            kind.read(row[column])
        except InputError:
            skipped[number] = row[column]["path"] or f"row {number}"
    if not skipped:
        return rows
    names = ", ".join(list(skipped.values())[:SHOWN]) + (f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else "")
    warnings.warn(f"skipped {len(skipped)} of {len(rows)} {kind.things} that cannot be read: {names}", stacklevel=3)
    return rows.select([number for number in range(len(rows)) if number not in skipped])


def path_of(rows: Any, column: str) -> Callable[[int], str]:
    """What messages call a row: the path of its image or sound, where it has one."""
    undecoded = rows.cast_column(column, replace(rows.features[column], decode=False))

    def name(row: int) -> str:
        return undecoded[row][column]["path"] or f"row {row}"

    return name


def is_text(rows: Rows, column: str) -> bool:
    """Whether there is such a column, and it holds texts."""
    kind = (rows.features or {}).get(column)
    return isinstance(kind, Value) and kind.dtype in ("string", "large_string")


def _texts(rows: Rows, column: str) -> set[str | None]:
    if column not in tables.column_names(rows):  # the test set of a competition
        return set()
    return set(rows.unique(column)) if isinstance(rows, Dataset) else {row[column] for row in rows.select_columns(column)}


def _is_there(value: Any) -> bool:
    return value is not None


def _opened(rows: Rows, column: str, folder: str, whose: str) -> Rows:
    """The rows with whole paths, which is what is opened; those of a stream are looked at when it gets there."""
    if not isinstance(rows, Dataset):
        return rows
    paths = rows[column][:]
    if None in paths:
        raise InputError(f"{whose}: row {paths.index(None)} has no {column}\ngive every row the path of one")
    order, whole = rows.column_names, [located(folder, path) for path in paths]
    rows = rows.add_column("whole paths", whole).remove_columns(column)  # in this order: a table needs a column
    return rows.rename_column("whole paths", column).select_columns(order)
