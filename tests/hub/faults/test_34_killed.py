import random
import signal
import time
from multiprocessing.context import ForkServerContext

import pytest

from tests.hub.faults.harness import SHA256, Child, Zoo, card_of
from tests.hub.faults.server import BODY

WHOLE = 0.45  # seconds; a little more than a slow download takes, so that some are killed while they commit


@pytest.mark.parametrize("times", [24, pytest.param(100, marks=pytest.mark.full)])
def test_killed_at_any_moment_it_resumes_and_completes(zoo: Zoo, processes: ForkServerContext, times: int) -> None:
    moments = random.Random(times)
    card = card_of(zoo.url("slow"))
    for _ in range(times):
        child = Child(processes, card, zoo.settings)
        time.sleep(moments.uniform(0, WHOLE))
        child.send(signal.SIGKILL)
        child.process.join(10)
        for blob in zoo.blobs():
            assert (zoo.store.blobs / blob).read_bytes() == BODY
            zoo.store.remove(blob)
    ranges = [request["range"] for request in zoo.requests("slow") if "range" in request]
    assert len(ranges) > times / 4  # what was there was continued

    path, origin = Child(processes, card, zoo.settings).result()
    assert path == str(zoo.store.blobs / SHA256) and origin == zoo.url("slow").address
    assert (zoo.store.blobs / SHA256).read_bytes() == BODY
    assert zoo.quarantined() == []

    zoo.store.prune(zoo.store.garbage(grace=0))
    assert zoo.unfinished() == []
    assert zoo.blobs() == [SHA256]
