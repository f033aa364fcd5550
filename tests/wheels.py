"""Wheels for tests: real ones, built on the spot, for the real pip."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bestiary.hub.card import Card, File, SourceSpec

NAME, VERSION, FOLDER = "zoo-weights", "1.0", "zoo_weights/model"
WEIGHTS, TOKENIZER = b"weights " * 5000, b"{}"


@dataclass(frozen=True)
class Wheel:
    path: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def card(self, *files: File, sha256: str | None = None, names: Mapping[str, str] | None = None) -> Card:
        """A card whose only source is this wheel."""
        source = SourceSpec(
            kind="package", address=f"{NAME}=={VERSION}", sha256=sha256 or self.sha256, folder=FOLDER, names=names or {}
        )
        return Card(name="zoo", task="text-embedding", license="mit", files=files, sources=(source,), checked="weights")


def build_wheel(folder: Path, members: Mapping[str | zipfile.ZipInfo, bytes] | None = None) -> Wheel:
    """A wheel with the members below `FOLDER`, or with weights and a tokenizer; members given as ZipInfo keep their names."""
    if members is None:
        members = {"model.bin": WEIGHTS, "tokenizer.json": TOKENIZER}
    path = folder / f"{NAME.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    info = f"{NAME.replace('-', '_')}-{VERSION}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name if isinstance(name, zipfile.ZipInfo) else f"{FOLDER}/{name}", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(path)


def file_of(name: str, content: bytes, *, size: int | None = None) -> File:
    """How a card lists a file of that content."""
    return File(name=name, size=size or len(content), sha256=hashlib.sha256(content).hexdigest(), role="weights")
