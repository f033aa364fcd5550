"""What a person sees while files come in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """Told how far each file is. Files come one after another: `begin`, any number of `at`, `end`."""

    def begin(self, name: str, size: int | None) -> None:
        """A file of `size` bytes (None: nobody knows) is being fetched."""

    def at(self, done: int) -> None:
        """`done` of its bytes are there; fewer than before when a source had to start again."""

    def end(self) -> None:
        """It came, or it failed."""


class Silent:
    """Shows nothing."""

    def begin(self, name: str, size: int | None) -> None: ...
    def at(self, done: int) -> None: ...
    def end(self) -> None: ...


class Bar:
    """A bar on stderr with speed and time left, for as long as a file comes in; none for one that was here already."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None

    def begin(self, name: str, size: int | None) -> None:
        self._name = name
        self._size = size

    def at(self, done: int) -> None:
        self._rich = self._rich or self._started()
        # More than the file has: a whole of which it is a part, and whose size nobody told.
        total = self._size if done <= (self._size or 0) else None
        self._rich.update(self._rich.task_ids[0], completed=done, total=total)

    def end(self) -> None:
        if self._rich:
            self._rich.stop()
            self._rich = None

    def _started(self) -> RichProgress:
        # Imported here: rich takes longer than everything else that a load does to find its files.
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        rich = Progress(*columns, console=Console(stderr=True))
        rich.add_task(escape(self._name), total=self._size)
        rich.start()
        return rich


def standard_progress() -> Progress:
    """A bar where a person watches the terminal, nothing elsewhere."""
    return Bar() if sys.stderr.isatty() else Silent()
