"""`debian:` sources: one version of a package of Debian, as the user's APT has it.

The user's own apt-get fetches the archive, since its mirrors, keys and proxies are set up already. It installs nothing. A file
of the card is the archive itself, pinned by its sha256; what lies in it is read by whoever asked for it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bestiary.errors import BestiaryError, DiskFullError, OfflineError, SourceError
from bestiary.hub.records import BaseCard, File, SourceSpec
from bestiary.hub.sources import Sink, Source
from bestiary.hub.sources.program import PATIENCE, pour, run_program

ARCHIVES = Path("/var/cache/apt/archives")  # where APT keeps what it has fetched to install


class DebianSource(Source):
    """Fetches the archive once, at the first file that is asked for, and keeps it until `close`."""

    remote = True

    def __init__(self, spec: SourceSpec, card: BaseCard) -> None:
        self.label = f"Debian package {spec.address}"
        self._spec = spec
        self._report: Callable[[int], None] = lambda done: None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._archive: Path | BestiaryError | None = None

    def watch(self, report: Callable[[int], None]) -> None:
        self._report = report

    def obtain(self, file: File, sink: Sink) -> None:
        if file.sha256 != self._spec.sha256:
            raise SourceError(f"{self.label} is not {file.name}.\nIts archive is the one file that it gives.")
        if self._archive is None:
            try:
                self._archive = self._fetch()
            except BestiaryError as error:
                self._archive = error
        if isinstance(self._archive, BestiaryError):
            raise self._archive
        with self._archive.open("rb") as archive:
            pour(archive, sink)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = self._archive = None

    def _fetch(self) -> Path:
        program = shutil.which("apt-get")
        if program is None:
            raise SourceError(
                f"{self.label}: there is no apt-get on this machine to fetch it with.\n"
                "Fetch its .deb elsewhere, and name a folder that keeps it as sha256/<digest> in BESTIARY_MIRRORS."
            )
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="bestiary-")
            folder = Path(self._folder.name)
            status, messages = run_program([program, "download", "--quiet", apt_name(self._spec)], folder, self._report)
        except OSError as error:
            raise self._no_room() from error
        except subprocess.TimeoutExpired as error:
            raise SourceError(
                f"{self.label}: apt-get brought no byte in {PATIENCE:.0f} seconds and was stopped.\n"
                "Check the network and try again."
            ) from error
        if status != 0:
            raise self._failure(messages)
        archives = list(folder.glob("*.deb"))
        if len(archives) != 1:
            raise SourceError(f"{self.label}: apt-get gave {len(archives)} archives instead of one.\nTry another source.")
        return archives[0]

    def _no_room(self) -> DiskFullError:
        return DiskFullError(
            f"{self.label}: there is no room for it among the temporary files.\nFree some space, or point TMPDIR at another disk."
        )

    def _failure(self, messages: str) -> BestiaryError:
        """What apt-get's messages come down to; it has one exit status for everything."""
        if "No space left on device" in messages:
            return self._no_room()
        if any(words in messages for words in ("Could not connect", "Could not resolve", "Temporary failure resolving")):
            return OfflineError(
                f"{self.label}: apt-get cannot reach Debian's archive.\nCheck the network, and APT's proxy settings."
            )
        errors = [line for line in messages.splitlines() if line.startswith("E: ")]
        last = "".join(filter(str.isprintable, (errors or ["E: it gave no reason"])[-1].removeprefix("E: ")))
        return SourceError(f"{self.label}: apt-get failed: {last[:200]}\nSee `apt-get download {apt_name(self._spec)}`.")


def apt_name(spec: SourceSpec) -> str:
    """The version of the package as APT names it."""
    return spec.address.replace("==", "=", 1)


def kept_archives(spec: SourceSpec) -> list[Path]:
    """The archives of that version that APT has kept, of whatever kind of machine; in their names it writes a colon as %3a."""
    name, _, version = spec.address.partition("==")
    return sorted(ARCHIVES.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
