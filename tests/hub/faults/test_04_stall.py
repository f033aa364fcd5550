from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import PART


def test_a_stall_is_ended_and_resumed(zoo: Zoo) -> None:
    zoo.fetch("stall")
    assert [request.get("range") for request in zoo.requests("stall")] == [None, f"bytes={PART}-"]
