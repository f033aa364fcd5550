from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import PART


def test_it_starts_again(zoo: Zoo) -> None:
    zoo.fetch("not_satisfiable")
    assert [request.get("range") for request in zoo.requests("not_satisfiable")] == [None, f"bytes={PART}-", None]
