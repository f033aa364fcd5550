"""What lies on this machine already: installed distributions, and the caches of APT, huggingface_hub, timm and torch.hub.

Folders are looked up as those libraries look them up, without importing any of them. What is found is only a candidate:
it belongs to someone else, is verified by the caller and used where it lies, and is left alone when it is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bestiary.errors import SourceError
from bestiary.hub.records import BaseCard, File, SourceSpec
from bestiary.hub.sources import Sink, Source
from bestiary.hub.sources.debian import kept_archives
from bestiary.hub.sources.package import installed_file


class MachineCaches(Source):
    """The files of a card that other programs have fetched before.

    `label` names the cache that gave the last file. A file without a digest is never taken from here: its name alone does
    not say what it is.
    """

    remote = False

    def __init__(self, card: BaseCard) -> None:
        self.label = "caches of this machine"
        self._sources = card.sources

    def obtain(self, file: File, sink: Sink) -> Path:
        if file.sha256 is not None:
            for label, path in self._candidates(file, file.sha256):
                if _is_file_of(path, file.size):
                    self.label = label
                    return path
        raise SourceError(f"{file.name} lies in none of the caches of this machine.")

    def _candidates(self, file: File, sha256: str) -> Iterator[tuple[str, Path]]:
        """Where the file may lie, the likeliest first."""
        hub = hub_cache()
        for repository in hub.glob("*--*"):
            # Large files are named by their sha256 there, whatever they are called in whichever repository.
            yield "cache of huggingface_hub", repository / "blobs" / sha256
        checkpoints = {file.name}
        for spec in self._sources:
            name = spec.names.get(file.name, file.name)
            checkpoints.add(name)
            if spec.kind == "package" and (path := installed_file(spec, file)):
                yield f"installed package {spec.address}", path
            if spec.kind == "debian" and sha256 == spec.sha256:
                for archive in kept_archives(spec):
                    yield f"kept Debian package {spec.address}", archive
            if spec.kind == "hf":
                for snapshot in _snapshots(hub, spec):
                    yield "cache of huggingface_hub", snapshot / name
        for name in sorted(checkpoints):
            yield "cache of torch.hub", torch_checkpoints() / Path(name).name


def _is_file_of(path: Path, size: int | None) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:  # not ours to read, or gone again
        return False


def hub_cache() -> Path:
    """The folder where huggingface_hub, and with it timm, keeps what it fetched."""
    home = os.environ.get("HF_HOME") or str(_caches() / "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(hub)))


def torch_checkpoints() -> Path:
    """The folder where torch.hub, torchvision and timm keep files, by the last part of their address."""
    home = os.environ.get("TORCH_HOME") or str(_caches() / "torch")
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints"


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _snapshots(hub: Path, spec: SourceSpec) -> list[Path]:
    """A repository's revisions that are there, the one of the card first; the digest decides, not the revision."""
    address = spec.address if spec.address.startswith("datasets/") else f"models/{spec.address}"
    folder = hub / address.replace("/", "--") / "snapshots"
    return sorted(folder.glob("*"), key=lambda snapshot: (snapshot.name != spec.revision, snapshot.name))
