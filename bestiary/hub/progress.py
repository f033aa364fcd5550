"""What a person sees while files come in, and while other long work is done."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

Item = TypeVar("Item")


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
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), *self._amounts(), TimeRemainingColumn())
        rich = Progress(*columns, console=Console(stderr=True))
        rich.add_task(escape(self._name), total=self._size)
        rich.start()
        return rich

    def _amounts(self) -> Sequence[ProgressColumn]:
        from rich.progress import DownloadColumn, TransferSpeedColumn

        return DownloadColumn(), TransferSpeedColumn()


class CountingBar(Bar):
    """The same for things that are counted, not measured in bytes."""

    def _amounts(self) -> Sequence[ProgressColumn]:
        from rich.progress import MofNCompleteColumn

        return (MofNCompleteColumn(),)


class PacedBar(CountingBar):
    """The same, which also says how many a second."""

    def _amounts(self) -> Sequence[ProgressColumn]:
        from rich.progress import ProgressColumn, Task
        from rich.text import Text

        class Pace(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.finished_speed or task.speed or 0:,.1f} a second")

        return (*super()._amounts(), Pace())


def counted(items: Iterable[Item], name: str, count: int) -> Iterator[Item]:
    """The items as they are; where a person watches the terminal, a bar shows how many of the `count` were asked for.

    >>> list(counted("abc", "letters", 3))
    ['a', 'b', 'c']
    """
    numbers = itertools.count(1)
    return followed(items, name, count, lambda item: next(numbers))


def followed(items: Iterable[Item], name: str, whole: int | None, place: Callable[[Item], int]) -> Iterator[Item]:
    """The items as they are; where a person watches the terminal, a bar shows how far each reaches of the `whole`, if that is
    known."""
    progress = CountingBar() if sys.stderr.isatty() else Silent()
    progress.begin(name, whole)
    try:
        for item in items:
            yield item
            progress.at(place(item))
    finally:
        progress.end()


def standard_progress() -> Progress:
    """A bar where a person watches the terminal, nothing elsewhere."""
    return Bar() if sys.stderr.isatty() else Silent()
