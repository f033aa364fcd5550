"""A program of the user's that fetches: pip, apt-get. How far it is can be seen from the folder that it writes to."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from bestiary.hub.sources import Sink
from bestiary.hub.verify import CHUNK

PATIENCE = 300.0  # seconds without a new byte after which it is stopped; its own time limits are far below
GLANCE = 0.2  # seconds between two looks at how far it is


def run_program(command: Sequence[str], folder: Path, report: Callable[[int], None]) -> tuple[int, str]:
    """Run it in `folder` and return its exit status and what it said, in English.

    `folder` is also where it keeps temporary files, so that they go with the folder and show how far a download is, which
    older versions of pip can tell in no other way. And it is the working directory, so that no module is imported from where
    the user happens to be. Raises TimeoutExpired, with the program stopped, when no new byte comes for `PATIENCE` seconds.
    """
    own = {**dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)), "LC_ALL": "C.UTF-8"}
    log = folder / "messages"
    with (
        log.open("wb") as messages,
        subprocess.Popen(
            command, cwd=folder, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages
        ) as child,
    ):
        try:
            status = _wait(child, folder, report)
        finally:
            child.kill()  # does nothing to one that has ended
    return status, log.read_text("utf-8", errors="replace")


def pour(content: IO[bytes], sink: Sink) -> None:
    """Write all of a file into a sink, whatever an earlier attempt left there."""
    if sink.offset:
        sink.restart()
    while chunk := content.read(CHUNK):
        sink.write(chunk)


def _wait(child: subprocess.Popen[bytes], folder: Path, report: Callable[[int], None]) -> int:
    done, since = 0, time.monotonic()
    while True:
        try:
            return child.wait(GLANCE)
        except subprocess.TimeoutExpired:
            if (there := _largest_file(folder)) != done:
                done, since = there, time.monotonic()
                report(done)
            elif time.monotonic() - since > PATIENCE:
                raise


def _largest_file(folder: Path) -> int:
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone again
                largest = max(largest, os.lstat(os.path.join(parent, name)).st_size)
    return largest
