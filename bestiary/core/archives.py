"""Archives, read from one end to the other: nothing is extracted, so that no name and no link in them leads anywhere.

A package of Debian is an archive of ar (a line of 60 bytes before each member), one of whose members is a tar of the files.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any

from bestiary.errors import InputError

LARGEST = 1 << 30  # bytes of one member
_AR, _AR_LINE = b"!<arch>\n", 60  # how an archive of ar begins, and the bytes that tell of each member
PACKED = 200  # bytes that one byte of an archive may hold; images and their labels hold far fewer

_UNPACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open}  # by how what they unpack begins

# What the two libraries raise, depending on which byte is wrong; RuntimeError for a member that is encrypted, and of its kind
# NotImplementedError for one that is packed in a way that they do not know.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def members(path: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The plain files of a tar (packed or not), a zip or a Debian package, in their order, and what reads each before the next.

    Raises InputError for an archive that is damaged, holds a file of over a gibibyte, or unpacks to more than is reasonable.
    """
    with _named(path), open(path, "rb") as file:
        magic = file.read(len(_AR))
        if magic == _AR:
            yield from _tar_members(_files_of_debian(file, path), path)
            return
        file.seek(0)
        yield from _zip_members(file, path) if magic[:2] == b"PK" else _tar_members(file, path)


def read_members(path: str, names: Collection[str]) -> dict[str, bytes]:
    """The contents of some members. Raises InputError as `members` does, and for one that is not there."""
    contents = {name: read() for name, read in members(path) if name in names}
    check_all_there(path, names, contents)
    return contents


def check_all_there(path: str, names: Collection[str], found: Collection[str]) -> None:
    """Raises InputError, naming a member of an archive that was not found in it."""
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{path} lacks {missing[0]!r}, and {len(missing) - 1} more\nget it again from where it came")


def unpack(file: IO[bytes], name: str) -> bytes:
    """What a gzip file holds. Raises InputError where it is damaged or unpacks to over a gibibyte."""
    with _named(name), gzip.open(file) as packed:
        content = packed.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"{name} unpacks to over {LARGEST} bytes\nget it from where it was published")
    return content


class _Part(io.RawIOBase):
    """So many bytes of a file from where it stands."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._first, self._size, self._at = file, file.tell(), size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._first + self._at)
        content = self._file.read(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def _files_of_debian(file: IO[bytes], path: str) -> IO[bytes]:
    """The tar of files in a Debian package, which is read up to the end of its first line."""
    while (line := file.read(_AR_LINE)).endswith(b"`\n") and (digits := line[48:58].strip()).isdigit():
        size = int(digits)
        if line.startswith(b"data.tar"):
            return io.BufferedReader(_Part(file, size))
        file.seek(size + size % 2, os.SEEK_CUR)
    raise InputError(f"{path} is no package of Debian\nget it again from where it came")


def _tar_members(file: IO[bytes], path: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    left = os.path.getsize(path) * PACKED

    def read() -> bytes:
        with _named(path):
            content = tar.extractfile(info)  # a view of the archive; nothing is written
            return content.read() if content else b""

    magic = file.read(6)
    file.seek(0)
    # Through these themselves, which notice where tarfile takes the end of a broken file for the end of the archive.
    unpacker = next((opener for start, opener in _UNPACKERS.items() if magic.startswith(start)), None)
    with unpacker(file) if unpacker else file as plain, tarfile.open(fileobj=plain, mode="r|" if unpacker else "r|*") as tar:
        for info in tar:
            left = _check_size(info.size, left, path, info.name)
            if info.isreg():
                yield info.name, read


def _zip_members(file: IO[bytes], path: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    left = os.path.getsize(path) * PACKED

    def read() -> bytes:
        with _named(path):
            return archive.read(info)

    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            left = _check_size(info.file_size, left, path, info.filename)
            if stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG) and not info.is_dir():  # 0: no kind was noted
                yield info.filename, read


def _check_size(size: int, left: int, path: str, name: str) -> int:
    if size > min(left, LARGEST):
        raise InputError(f"{path}: {name[:200]!r} unpacks to {size} bytes, too many\nget it from where it was published")
    return left - size


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "a damaged archive"
        raise InputError(f"{path} cannot be read: {reason}\nget it again from where it came") from error
