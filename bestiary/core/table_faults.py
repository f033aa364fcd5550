"""What is wrong with files that cannot be read as tables, of which Hugging Face `datasets` says little."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bestiary.errors import BestiaryError, DiskFullError, InputError


def explained(error: Exception, whose: str, names: Sequence[str], form: str) -> BestiaryError:
    """What to raise for files of this format that could not be read.

    It tells what was wrong with the disk, with a line of a file, or else what the innermost error says.
    """
    causes = causes_of(error)
    if any(map(is_full, causes)):
        return no_room(whose)
    for name in names:
        if fault := _fault(Path(name), form):
            return InputError(f"{name}: {fault}\ncorrect it there, or give another file")
    reason = "".join(filter(str.isprintable, (str(causes[-1]).splitlines() or [type(causes[-1]).__name__])[0]))
    return InputError(f"{whose} cannot be read as {form}: {reason[:200]}\ncheck the file")


def causes_of(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the innermost last."""
    causes = [error]
    while inner := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(inner)
    return causes


def is_full(error: BaseException) -> bool:
    """Whether this says that the disk takes no more."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def no_room(whose: str) -> DiskFullError:
    """What to raise then."""
    return DiskFullError(f"{whose}: no room for its rows\nfree some space, or point HF_DATASETS_CACHE elsewhere")


def _fault(path: Path, form: str) -> str | None:
    """The first line of a file that is wrong, and how; the file has been found unreadable already."""
    if path.stat().st_size == 0:
        return "the file is empty"
    if form == "parquet":
        return None
    line = 0
    with path.open("rb") as file:
        for line, content in enumerate(file, 1):
            try:
                text = content.decode("utf-8-sig" if line == 1 else "utf-8")
                if form == "jsonl" and text.strip() and not isinstance(json.loads(text), Mapping):
                    return f"line {line} is not a JSON object"
            except UnicodeDecodeError:
                return f"line {line} is not UTF-8"
            except ValueError as error:
                return f"line {line} is not JSON: {error}"
    return _row_fault(path, "\t" if form == "tsv" else ",") if form in ("csv", "tsv") else None


def _row_fault(path: Path, separator: str) -> str | None:
    """What Python's own reader finds wrong with a csv."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator)
        header, below = next(rows, []), False
        for row in rows:
            below = True
            if len(row) > len(header):
                return f"line {rows.line_num} has {len(row)} columns, the header {len(header)}"
    return None if below else "no rows below the header"
