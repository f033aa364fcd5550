"""Packages of Debian for tests: real ones, built on the spot, and an index of them for the real apt-get."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

VERSION = "1.0-1"


def tar_of(files: Mapping[str | tarfile.TarInfo, bytes], packed: str) -> bytes:
    """A tar; members given as TarInfo stay what they are."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{packed}") as archive:
        for name, content in files.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def ar_of(members: Mapping[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb_of(files: Mapping[str | tarfile.TarInfo, bytes], packed: str = "xz") -> bytes:
    """A package of Debian that holds these files."""
    control = tar_of({"./control": b"Package: small\n"}, "gz")
    return ar_of({"debian-binary": b"2.0\n", "control.tar.gz": control, f"data.tar.{packed}": tar_of(files, packed)})


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, packages: Mapping[str, bytes]) -> None:
    """Make these packages, at VERSION, all that apt-get knows of; skips where there is no apt-get."""
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    lines = []
    for name, content in packages.items():
        (folder / f"{name}.deb").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        lines += [f"Package: {name}", f"Version: {VERSION}", "Architecture: all", "Maintainer: Zoo <zoo@zoo.invalid>"]
        lines += [f"Filename: ./{name}.deb", f"Size: {len(content)}", f"SHA256: {digest}", "Description: small", ""]
    (folder / "Packages").write_text("\n".join(lines) + "\n")
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    for place in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State": folder / "state", "Dir::Cache": folder / "cache", "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": folder / "parts", "Dir::State::status": folder / "status", "APT::Sandbox::User": "root",
    }  # fmt: skip
    (folder / "status").touch()
    (folder / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    monkeypatch.setenv("APT_CONFIG", str(folder / "apt.conf"))
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True, timeout=60)
