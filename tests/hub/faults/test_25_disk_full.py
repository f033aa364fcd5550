import errno
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from bestiary.errors import DiskFullError
from bestiary.hub.fetch import fetch
from tests.hub.faults.harness import FILE, ROOT, Zoo, card_of, fetch_and_report
from tests.hub.faults.server import BODY, PART

MOUNT = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m none "$0" && exec "$@"')

FILL_THE_DISK_IN_THE_MIDDLE = """
import sys
from pathlib import Path
from bestiary.errors import DiskFullError
from bestiary.hub.fetch import fetch
from bestiary.hub.progress import Silent
from tests.hub.faults.harness import Zoo, card_of
from tests.hub.faults.server import PART

folder, address = Path(sys.argv[1]), sys.argv[2]
zoo = Zoo(folder, address)

class Glutton(Silent):
    def at(self, done):
        if done > PART:
            (folder / "food").write_bytes(bytes(2_000_000))

try:
    fetch(card_of(zoo.url("honest")), zoo.settings, progress=Glutton())
except DiskFullError as error:
    print(error)
    assert zoo.unfinished() == zoo.blobs() == zoo.quarantined() == []
    (folder / "food").unlink()
    zoo.fetch("honest")
    print("whole")
"""


def test_it_is_seen_ahead(zoo: Zoo) -> None:
    huge = replace(FILE, size=10**18)
    with pytest.raises(DiskFullError) as caught:
        fetch(card_of(zoo.url("honest"), file=huge), zoo.settings)
    message = str(caught.value)
    assert "model.bin needs 1,000,000,000,000.0 MB" in message and "BESTIARY_HOME" in message
    assert len(message.splitlines()) <= 3
    assert zoo.requests("honest") == [] and zoo.unfinished() == []


def test_it_fills_up_in_the_middle(tmp_path: Path, server: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("unshare") is None or subprocess.run([*MOUNT, folder, "true"], capture_output=True).returncode != 0:
        pytest.skip("no private mount here: needs `unshare` and user namespaces; the test below covers the same way")
    done = subprocess.run(
        [*MOUNT, folder, sys.executable, "-c", FILL_THE_DISK_IN_THE_MIDDLE, folder, server],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    *message, last = done.stdout.splitlines()
    assert last == "whole", done.stderr
    assert message[0].startswith("model.bin cannot be written to ") and message[0].endswith("No space left on device.")
    assert len(message) <= 3


def limited(limit: int, zoo: Zoo, reports: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    fetch_and_report(card_of(zoo.url("honest")), zoo.settings, reports)


def test_the_system_refuses_a_write_in_the_middle(zoo: Zoo, processes: ForkServerContext) -> None:
    ours, theirs = processes.Pipe()
    process = processes.Process(target=limited, args=(PART, zoo, theirs))
    process.start()
    assert ours.recv() == "ready"
    theirs.close()
    kind, message = ours.recv()
    ours.close()
    process.join(10)
    assert kind == "DiskFullError"
    assert f"cannot be written to {zoo.store.partials}: {os.strerror(errno.EFBIG)}" in message
    assert zoo.unfinished() == zoo.blobs() == zoo.quarantined() == []
    assert zoo.fetch("honest").path.stat().st_size == len(BODY)
