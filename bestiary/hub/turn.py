"""Taking turns: of several processes that want the same file, one fetches it and the others wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bestiary.hub.files import try_lock

GLANCE = 0.05  # seconds between two looks


@contextmanager
def turn(lock: Path, unfinished: Callable[[], int], patience: float, watch: Callable[[int], None]) -> Iterator[None]:
    """Wait while another process holds `lock`, until `unfinished()`, the bytes that it has, stands still for `patience` seconds.

    Spares downloads, no more: who loses patience, or finds that there are no locks here, goes on alone and is as
    correct. `watch` is told of the other's progress.
    """
    seen, since = -1, time.monotonic()
    with ExitStack() as stack:
        with suppress(OSError):  # a folder that cannot be written
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("ab"))
            while try_lock(file) is False and time.monotonic() - since < patience:
                if (there := unfinished()) != seen:
                    seen, since = there, time.monotonic()
                    watch(there)
                time.sleep(GLANCE)
        yield
