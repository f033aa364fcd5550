import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.faults.harness import SHA256, Zoo
from tests.hub.faults.server import BODY


def flip(path: Path) -> None:
    """One bit, and the times as they were."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(bytes([BODY[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(0o444)


def empty(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 1000)


@pytest.mark.parametrize("rot", [flip, empty, cut_short])
def test_it_is_found_at_load_put_away_and_fetched_again(zoo: Zoo, rot: Callable[[Path], None]) -> None:
    path = zoo.fetch("honest").path
    rot(path)
    rotten = path.read_bytes()
    zoo.fetch("honest")
    assert len(zoo.requests("honest")) == 2
    assert zoo.quarantined() == [rotten]


def test_one_that_rots_without_a_trace_is_found_by_always(zoo: Zoo) -> None:
    path = zoo.fetch("honest").path
    flip(path)
    zoo.store.memo.remember(path.stat(), SHA256)  # as if neither the system nor a clock had seen the change
    assert zoo.store.find(SHA256, len(BODY)) == path
    assert zoo.store.find(SHA256, len(BODY), verify="always") is None
    assert not path.exists()
