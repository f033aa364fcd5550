"""What a person gives to a model, opened: a path, an address, the bytes of a file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bestiary.errors import InputError, OfflineError


class Kind(NamedTuple):
    """A kind of input, for messages and limits."""

    name: str  # "image"
    others: str  # what else it may be given as, such as "an array or a tensor"
    largest: int  # bytes that are downloaded of one


def opened(source: Any, name: str, kind: Kind) -> tuple[BinaryIO, str]:
    """The file that holds an input, and what errors call it: its path or address, or else `name`.

    Raises InputError for what is no file, OfflineError or SourceError for an address that cannot be fetched.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), name
    if is_address(source):
        return io.BytesIO(_download(source, kind)), source
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"{name} is of type {type(source).__name__}\ngive a path, an address, bytes, {kind.others}")
    try:
        return Path(source).open("rb"), str(Path(source))
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else error
        article = "an" if kind.name[0] in "aeiou" else "a"
        raise InputError(f"{Path(source)} cannot be read: {reason}\ngive the path of {article} {kind.name}") from None


def is_address(source: Any) -> bool:
    """Whether an input has to be fetched."""
    return isinstance(source, str) and source.startswith(("https://", "http://"))


def name_of(source: Any, name: str) -> str:
    """What errors call an input: its path or address, where it has one, or else `name`."""
    return str(source) if isinstance(source, (str, os.PathLike)) else name


class _Memory:
    """A sink that keeps the bytes for as long as they are needed, and no more than are reasonable."""

    mark: str | None = None

    def __init__(self, kind: Kind) -> None:
        self.content = bytearray()
        self.kind = kind

    @property
    def offset(self) -> int:
        return len(self.content)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        if self.offset + len(chunk) > self.kind.largest:
            size = self.kind.largest // 1_000_000
            raise InputError(f"the {self.kind.name} has over {size} MB\nfetch it yourself and make it smaller")
        self.content += chunk

    def restart(self) -> None:
        self.content.clear()


def _download(address: str, kind: Kind) -> bytearray:
    from bestiary.hub.card import File  # an input by address is rare, and urllib3 takes its time to import
    from bestiary.hub.settings import Settings
    from bestiary.hub.sources.web import WebSource

    if Settings.read().offline:
        raise OfflineError(f"{address} needs the network, which is switched off\ngive a file, or unset BESTIARY_OFFLINE")
    source, memory = WebSource("the web", lambda file: address), _Memory(kind)
    try:
        source.obtain(File(name=kind.name, role=kind.name), memory)
    finally:
        source.close()
    return memory.content
