"""`path:` sources and folder mirrors: files that lie on a disk, used in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bestiary.errors import SourceError
from bestiary.hub.records import BaseCard, File, SourceSpec
from bestiary.hub.sources import Sink, Source


class FolderSource(Source):
    """`place` says which path, relative to `folder`, a file has."""

    remote = False

    def __init__(self, label: str, folder: Path, place: Callable[[File], str]) -> None:
        self.label = label
        self.folder = folder
        self.place = place

    @classmethod
    def of_card(cls, spec: SourceSpec, card: BaseCard) -> FolderSource:
        """The folder that a card names, relative to the card's own."""
        folder = (card.path.parent if card.path else Path()) / spec.address
        return cls(f"folder {folder}", folder, lambda file: spec.names.get(file.name, file.name))

    @classmethod
    def of_mirror(cls, address: str) -> FolderSource:
        """A folder that keeps each file as `sha256/<digest>`."""
        return cls(f"mirror {address}", Path(address).expanduser(), lambda file: f"sha256/{file.sha256}")

    def obtain(self, file: File, sink: Sink) -> Path:
        path = self.folder / self.place(file)
        if not path.is_file():
            raise SourceError(f"{path} is not there.\nCheck the folder, or that its disk is mounted.")
        return path
