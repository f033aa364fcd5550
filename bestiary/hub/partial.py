"""An unfinished blob: private to the process that writes it, and found again by another one after a kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from bestiary.errors import DiskFullError, IntegrityError, SourceError
from bestiary.hub.files import random_name, try_lock, writing
from bestiary.hub.verify import hash_stream, new_digest

SUFFIX = ".partial"
MARK_SUFFIX = ".mark"


def _name(folder: Path, sha256: str | None) -> Path:
    return folder / f"{sha256 or 'unpinned'}.{random_name()}{SUFFIX}"


def hold(path: Path) -> BinaryIO | None:
    """Open a partial for this process alone; None when its writer lives, when it is gone, or when nobody can tell."""
    try:
        file = path.open("r+b", buffering=0)
    except OSError:
        return None
    if try_lock(file):
        return file
    file.close()
    return None


class Partial:
    """The `Sink` that a download writes to; becomes a blob by `commit`.

    The file is made at the first touch, so that a source which names a path to use in place leaves nothing behind. It
    is hashed while it is written. Left without a commit, its bytes stay for the next process, which claims them by
    locking and renaming the file: a killed process holds no lock, and only one process can rename. Correctness needs the
    rename alone: where locks do nothing the old writer finds its file gone and stops, and what was claimed is hashed
    again, as it lies, before it is committed.
    """

    def __init__(
        self,
        folder: Path,
        finish: Callable[[Partial, str, str], Path],  # given the digest and the origin, makes a blob of a synced partial
        sha256: str | None,
        size: int | None,
        name: str,
        watch: Callable[[int], None],
    ) -> None:
        self.name = name
        self.sha256 = sha256
        self.size = size
        self.path = _name(folder, sha256)
        self.inherited = False  # some of the bytes were left by an earlier download
        self._finish = finish
        self._watch = watch
        self._file: BinaryIO | None = None
        self._offset = 0
        self._digest = new_digest()
        self._claimed = False

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        # On a full disk the bytes would only be in the way; without a digest nobody could ever continue them.
        if self._offset == 0 or self.sha256 is None or isinstance(error, DiskFullError):
            self.path.unlink(missing_ok=True)
            self._mark_path.unlink(missing_ok=True)

    @property
    def offset(self) -> int:
        """Bytes that are there, those of an earlier process included."""
        self._open()
        return self._offset

    @property
    def mark(self) -> str | None:
        try:
            return self._mark_path.read_text(encoding="ascii")
        except (OSError, ValueError):
            return None

    @mark.setter
    def mark(self, mark: str | None) -> None:
        self._open()
        with writing(self.name, self.path.parent):
            if mark is None:
                self._mark_path.unlink(missing_ok=True)
            else:
                self._mark_path.write_text(mark, encoding="ascii")

    @property
    def _mark_path(self) -> Path:
        return self.path.with_suffix(MARK_SUFFIX)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        file = self._open()
        self._check_owner()
        if self.size is not None and self._offset + len(chunk) > self.size:
            raise IntegrityError(f"{self.name} has more than the {self.size} bytes that its card gives.")
        with writing(self.name, self.path.parent):
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
        self._digest.update(chunk)
        self._offset += len(chunk)
        self._watch(self._offset)

    def restart(self) -> None:
        file = self._open()
        self._check_owner()
        self.mark = None
        with writing(self.name, self.path.parent):
            file.seek(0)
            file.truncate()
        self._digest = new_digest()
        self._offset = 0
        self.inherited = False

    def commit(self, origin: str) -> Path:
        """The verified blob. `origin` says where the bytes came from.

        Raises IntegrityError when the bytes are not those that were asked for (they are in quarantine then), and
        DiskFullError when they cannot be kept.
        """
        file = self._open()
        self._check_owner()
        if self._claimed:
            file.seek(0)
            self._digest = new_digest()
            hash_stream(file, self._digest)
        with writing(self.name, self.path.parent):
            os.fsync(file.fileno())
        file.close()
        self._file = None
        self._mark_path.unlink(missing_ok=True)
        return self._finish(self, self._digest.hexdigest(), origin)

    def _open(self) -> BinaryIO:
        if self._file is None:
            with writing(self.name, self.path.parent):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._claim() or self._create()
            self._check_space()
        return self._file

    def _create(self) -> BinaryIO:
        while True:
            file = self.path.open("x+b", buffering=0)
            if try_lock(file) is not False:
                return file
            file.close()  # claimed by another process before it was locked: it may have that one
            self.path = _name(self.path.parent, self.sha256)

    def _claim(self) -> BinaryIO | None:
        if self.sha256 is None:
            return None
        for orphan in self.path.parent.glob(f"{self.sha256}.*{SUFFIX}"):
            if (file := hold(orphan)) is None:
                continue
            try:
                orphan.rename(self.path)
            except OSError:  # another process was faster
                file.close()
                continue
            with suppress(FileNotFoundError):
                orphan.with_suffix(MARK_SUFFIX).replace(self._mark_path)
            self._claimed = self.inherited = True
            hash_stream(file, self._digest)
            self._offset = file.tell()
            return file
        return None

    def _check_owner(self) -> None:
        """Stop when another process has claimed this file, which can only be where locks do nothing."""
        file = self._open()
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                return
        raise SourceError(f"{self.name}: another process took over its unfinished download.\nLoad again.")

    def _check_space(self) -> None:
        if self.size is None:
            return
        free = shutil.disk_usage(self.path.parent).free
        missing = self.size - self._offset
        if missing > free:
            raise DiskFullError(
                f"{self.name} needs {missing / 1e6:,.1f} MB, {self.path.parent} has {free / 1e6:,.1f} MB free.\n"
                "Free some space (bestiary cache df shows what the store holds), or point BESTIARY_HOME at another disk."
            )
