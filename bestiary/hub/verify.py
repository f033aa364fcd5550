"""Verification: the sha256 of a file, and a memo of them, so that a load need not hash again."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from bestiary.errors import IntegrityError

if TYPE_CHECKING:
    import hashlib

CHUNK = 1 << 20  # bytes; large enough that Python costs nothing beside sha256, small enough to stay in the cache
WEEK = 7 * 24 * 3600  # seconds

Verify = Literal["memo", "always"]
"""`"memo"`: a file that was hashed within the last week, and is unchanged since, is not hashed again. `"always"`: it is."""


class Memo:
    """Remembers the digests of files, by (device, inode, size, mtime, ctime).

    One small file for each inode: no process waits for another, and one that is lost or half-written only costs a hash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def digest(self, status: os.stat_result) -> str | None:
        """The sha256 that the file with this status was found to have within the last week."""
        try:
            note = self._note(status)
            line = note.read_text(encoding="ascii")
            fresh = 0 <= time.time() - note.stat().st_mtime < WEEK
        except (OSError, ValueError):
            return None
        sha256 = line[:64]
        return sha256 if fresh and line == _line(status, sha256) else None

    def remember(self, status: os.stat_result, sha256: str) -> None:
        """Note that the file with this status has this digest."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._note(status).write_text(_line(status, sha256), encoding="ascii")
        except OSError:
            return  # a store that cannot be written still loads, it only hashes each time

    def _note(self, status: os.stat_result) -> Path:
        return self.folder / f"{status.st_dev:x}-{status.st_ino:x}"


def _line(status: os.stat_result, sha256: str) -> str:
    return f"{sha256} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"


def digest_file(path: Path, memo: Memo, verify: Verify = "memo", size: int | None = None) -> tuple[int, str]:
    """The size in bytes and the sha256 of a file. One that is not of `size`, where that is given, is not hashed.

    Raises IntegrityError, naming the file, when it has another size, cannot be read, or is not a plain file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # asked before opening, which would wait for ever at a pipe
            raise IntegrityError(f"{path} is not a plain file.\nRemove it and load again.")
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if size not in (None, status.st_size):
                raise IntegrityError(f"{path} has {status.st_size} bytes instead of {size}.\nRemove it and load again.")
            if verify == "memo" and (known := memo.digest(status)):
                return status.st_size, known
            sha256 = hash_stream(file)
            unchanged = _line(os.fstat(file.fileno()), sha256) == _line(status, sha256)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}.\nCheck the disk, or remove it and load again.") from error
    if unchanged:
        memo.remember(status, sha256)
    return status.st_size, sha256


def check_file(path: Path, sha256: str, size: int, memo: Memo, verify: Verify = "memo") -> None:
    """Return when the file has this size and digest. Raises IntegrityError, naming the file, when it has not."""
    _, actual = digest_file(path, memo, verify, size)
    if actual != sha256:
        raise IntegrityError(f"{path} has sha256 {actual[:12]}… instead of {sha256[:12]}….\nRemove it and load again.")


def new_digest() -> hashlib._Hash:
    """A sha256 to add bytes to."""
    import hashlib  # OpenSSL comes with it, a tenth of what a listing may take

    return hashlib.sha256()


def hash_stream(file: BinaryIO, digest: hashlib._Hash | None = None) -> str:
    """The sha256, as 64 hexadecimal digits, of what is left to read; added to `digest` where one is given."""
    digest = digest or new_digest()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
