import signal
import time
from multiprocessing.context import ForkServerContext

import pytest

from bestiary.hub.store import Store
from tests.hub.faults.harness import SHA256, Child, Zoo, card_of


def test_the_others_lose_patience_and_go_on_by_themselves(
    zoo: Zoo, processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Child(processes, card_of(zoo.url("slow")), zoo.settings)
    deadline = time.monotonic() + 10
    while not zoo.unfinished() and time.monotonic() < deadline:
        time.sleep(0.01)
    holder.send(signal.SIGSTOP)
    try:
        monkeypatch.setattr(Store, "patience", 0.5)
        path = zoo.store.blobs / SHA256
        assert zoo.fetch_beside("honest").path == path
        inode = path.stat().st_ino
    finally:
        holder.send(signal.SIGCONT)
    assert holder.result() == (str(path), zoo.url("slow").address)  # it wakes up, and is as right
    assert path.stat().st_ino != inode
    assert zoo.fetch("honest").path == path
