"""Taking turns: of several processes that want the same file, one fetches it and the others wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def turn(lock: Path, unfinished: Callable[[], int], patience: float, watch: Callable[[int], None]) -> Iterator[None]:
    """Wait while another process holds `lock`, until `unfinished()`, the bytes that it has, stands still for `patience` seconds.

    Spares downloads, no more: who loses patience, or finds that there are no locks here, goes on alone and is as
    correct. `watch` is told of the other's progress.
    """
    from filelock import FileLock, Timeout

    # A marker file instead of a lock would outlive a killed process, so rather none.
    holder = FileLock(lock, fallback_to_soft=False)
    seen, since = -1, time.monotonic()
    with suppress(OSError):  # a folder that cannot be written, or a file system without locks
        lock.parent.mkdir(parents=True, exist_ok=True)
        while time.monotonic() - since < patience:
            try:
                holder.acquire(timeout=0.25, poll_interval=0.02)
                break
            except Timeout:
                there = unfinished()
                if there != seen:
                    seen, since = there, time.monotonic()
                    watch(there)
    try:
        yield
    finally:
        holder.release()
