"""The columns `image` and `label`, made of what the rows of a data set have."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets import ClassLabel, Dataset, Image, Value

from bestiary.core import tables
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.vision.datasets.formats import IMAGE
from bestiary.vision.datasets.picture import Picture, located

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

SHARDS = 64  # parts of a table that becomes a stream, for as many workers
SHOWN = 10  # names of what was skipped, in one message


def with_images(rows: Rows, folder: str | None, whose: str) -> Rows:
    """The rows with images for paths, which may not leave `folder`, or bytes. Raises InputError naming a path that does."""
    if IMAGE not in (there := tables.column_names(rows)):
        raise InputError(f"{whose} has no column {IMAGE!r}\nits columns: {', '.join(there)}; image= says which holds images")
    kind = rows.features[IMAGE]
    if isinstance(kind, Picture):
        return rows
    if _is_text(rows, IMAGE):
        if folder is None:
            raise InputError(f"{whose} gives paths of images, which its card does not list\nload it from a folder that has them")
        return _opened(rows, folder, whose).cast_column(IMAGE, Picture(folder=folder))
    held = isinstance(kind, Image) or (isinstance(kind, Mapping) and "bytes" in kind) or getattr(kind, "dtype", "") == "binary"
    if not held:
        raise InputError(f"{whose}: {IMAGE!r} holds {kind}\nwanted: paths of images, or their bytes; image= names the column")
    return rows.cast_column(IMAGE, Picture(folder=folder))


def with_classes(rows: Rows, others: Callable[[], list[Rows]], column: str, whose: str) -> Rows:
    """The rows with numbers for labels that are texts; `column` of the `others`, the rows of other splits, has more of them."""
    if not _is_text(rows, LABEL):
        return rows
    names = _texts(rows, LABEL).union(*(_texts(other, column) for other in others()))
    if None in names:
        raise InputError(f"{whose}: a row has no {LABEL}\ngive every row one, or leave it out")
    return rows.cast_column(LABEL, ClassLabel(names=sorted(filter(None, names))))


def streamed(rows: Rows) -> Rows:
    """The rows one after the other, in parts that the workers of a loader share."""
    return rows.to_iterable_dataset(num_shards=min(len(rows), SHARDS)) if isinstance(rows, Dataset) else rows


def readable(rows: Rows) -> Rows:
    """The rows whose image can be read; a warning names the others."""
    kind = rows.features[IMAGE]
    if not isinstance(rows, Dataset):
        return rows.cast_column(IMAGE, replace(kind, errors="skip")).filter(_is_there, input_columns=IMAGE)
    skipped: dict[int, str] = {}
    for number, row in enumerate(rows.select_columns(IMAGE).cast_column(IMAGE, replace(kind, decode=False))):
        try:
            kind.read(row[IMAGE])
        except InputError:
            skipped[number] = row[IMAGE]["path"] or f"row {number}"
    if not skipped:
        return rows
    names = ", ".join(list(skipped.values())[:SHOWN]) + (f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else "")
    warnings.warn(f"skipped {len(skipped)} of {len(rows)} images that cannot be read: {names}", stacklevel=3)
    return rows.select([number for number in range(len(rows)) if number not in skipped])


def _is_text(rows: Rows, column: str) -> bool:
    """Whether there is such a column, and it holds texts."""
    kind = (rows.features or {}).get(column)
    return isinstance(kind, Value) and kind.dtype in ("string", "large_string")


def _texts(rows: Rows, column: str) -> set[str | None]:
    if column not in tables.column_names(rows):  # the test set of a competition
        return set()
    return set(rows.unique(column)) if isinstance(rows, Dataset) else {row[column] for row in rows.select_columns(column)}


def _is_there(image: Any) -> bool:
    return image is not None


def _opened(rows: Rows, folder: str, whose: str) -> Rows:
    """The rows with whole paths, which is what is opened; those of a stream are looked at when it gets there."""
    if not isinstance(rows, Dataset):
        return rows
    paths = rows[IMAGE][:]
    if None in paths:
        raise InputError(f"{whose}: row {paths.index(None)} has no {IMAGE}\ngive every row the path of one")
    order, whole = rows.column_names, [located(folder, path) for path in paths]
    rows = rows.add_column("whole paths", whole).remove_columns(IMAGE)  # in this order: a table needs a column
    return rows.rename_column("whole paths", IMAGE).select_columns(order)
