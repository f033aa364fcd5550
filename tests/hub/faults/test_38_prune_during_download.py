import time
from multiprocessing.context import ForkServerContext

from tests.hub.faults.harness import SHA256, Child, Zoo, card_of
from tests.hub.faults.server import BODY


def test_the_download_survives(zoo: Zoo, processes: ForkServerContext) -> None:
    with zoo.store.partial("0" * 64, 10) as partial:
        partial.write(b"left")
    child = Child(processes, card_of(zoo.url("slow")), zoo.settings)
    deadline = time.monotonic() + 10
    while not any(name.startswith(SHA256) for name in zoo.unfinished()) and time.monotonic() < deadline:
        time.sleep(0.01)
    zoo.store.prune(zoo.store.garbage(grace=0))
    assert {name.partition(".")[0] for name in zoo.unfinished()} == {SHA256}
    path, _ = child.result()
    assert (zoo.store.blobs / SHA256).read_bytes() == BODY and path == str(zoo.store.blobs / SHA256)
    assert len(zoo.requests("slow")) == 1
