import time
from multiprocessing.context import ForkServerContext

import pytest

from bestiary.errors import SourceError
from bestiary.hub.store import Store
from tests.hub.faults.harness import SHA256, Child, Zoo, card_of


def test_only_its_own_files_go(zoo: Zoo, processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(processes, card_of(zoo.url("slow")), zoo.settings)
    deadline = time.monotonic() + 10
    while not zoo.unfinished() and time.monotonic() < deadline:
        time.sleep(0.01)
    monkeypatch.setattr(Store, "patience", 0.0)
    zoo.failure("absent", kind=SourceError)
    assert child.result() == (str(zoo.store.blobs / SHA256), zoo.url("slow").address)
    assert len(zoo.requests("slow")) == 1
