"""Small acts on files that others may delete at any time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bestiary.errors import DiskFullError


@contextmanager
def writing(name: str, folder: Path) -> Iterator[None]:
    """Turns what the operating system answers to a write into a DiskFullError that names the file and the folder."""
    try:
        yield
    except OSError as error:
        raise DiskFullError(
            f"{name} cannot be written to {folder}: {error.strerror}.\n"
            "Free some space (bestiary cache df shows what the store holds), or point BESTIARY_HOME at another disk."
        ) from error


def try_lock(file: IO[bytes]) -> bool | None:
    """Whether the file is now locked by this handle, until it is closed or its process ends; None where there are no locks."""
    # Not by the library that does this for lock files: it would open the file itself, and empty it or leave a marker.
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def random_name() -> str:
    """A name that no other process will think of."""
    return os.urandom(8).hex()


def size_of(path: Path) -> int:
    """Bytes; 0 for a file that is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def age(path: Path) -> float:
    """Seconds since the last change; 0 for a file that is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def delete(path: Path) -> int:
    """Returns the bytes that this gave back."""
    size = size_of(path)
    path.unlink(missing_ok=True)
    return size


def sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder, as fsync does for the bytes of a file."""
    if os.name == "nt":  # Windows has no such call, and journals renames itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
