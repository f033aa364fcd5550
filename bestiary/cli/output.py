"""What leaves the command line: tables for people, tab-separated lines when piped, JSON, or names alone.

Whatever comes from a card or a server passes `clean` on its way to a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bestiary.cli.session import Session

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1  # raised when a key of the JSON output changes its meaning or goes away

_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # control characters but tab and newline: a sequence without its escape is only text
    r"|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # marks that reorder or break a line
)


def clean(text: str) -> str:
    """`text` without the characters that make a terminal do something other than print; tabs and newlines stay.

    >>> clean("red \\x1b[31malert")
    'red [31malert'
    """
    return _UNPRINTABLE.sub("", text)


def as_size(count: int | None) -> str:
    """Bytes for a person, in powers of a thousand; nothing for None.

    >>> as_size(90_868_376)
    '90.9 MB'
    """
    if count is None:
        return ""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def as_text(value: object) -> str:
    """A cell that needs no other form: nothing for None, yes and no, what a list or a mapping holds.

    >>> as_text({"layers": 6, "mean": [0.5, 0.5], "normalize": True})
    'layers 6, mean 0.5 0.5, normalize yes'
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(as_text, value))
    return str(value)


class Column(NamedTuple):
    """One column of a table: the key of the records that it shows, and the form its values take for a person."""

    key: str
    form: Callable[[Any], str] = as_text


def emit_records(session: Session, name: str, columns: Sequence[Column], records: Sequence[Mapping[str, Any]]) -> None:
    """`emit` records with a row for each: raw values when piped, in the columns' forms for a person."""
    person = sys.stdout.isatty()
    rows = [[form(record[key]) if person else record[key] for key, form in columns] for record in records]
    emit(session, name, [column.key for column in columns], rows, records)


def emit(
    session: Session, name: str, titles: Sequence[str], rows: Iterable[Sequence[object]], records: Sequence[Mapping[str, Any]]
) -> None:
    """Print a result in the form asked for: `records` as JSON under `name`, else `rows`, whose first cells are the names."""
    if session.json:
        emit_json({name: records})
    elif session.quiet:
        write_lines(dict.fromkeys((row[0],) for row in rows))
    elif sys.stdout.isatty():
        emit_table(titles, rows)
    else:
        write_lines(rows)


def emit_json(content: Mapping[str, Any]) -> None:
    """Print one JSON document that carries its schema version."""
    print(json.dumps({"schema": SCHEMA, **content}, indent=2))


def write_lines(rows: Iterable[Sequence[object]]) -> None:
    """Print rows as tab-separated lines without a heading; a tab or newline within a cell becomes a space."""
    for row in rows:
        print("\t".join(" ".join(clean(as_text(cell)).splitlines()).replace("\t", " ") for cell in row))


def emit_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(as_text(cell))) for cell in row))
    console().print(table)


def console() -> Console:
    """The terminal behind stdout; NO_COLOR and the width are rich's business."""
    from rich.console import Console

    return Console(highlight=False)
