from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import PART


def test_an_early_end_is_seen_by_the_size_of_the_card(zoo: Zoo) -> None:
    zoo.fetch("no_length")
    assert [request.get("range") for request in zoo.requests("no_length")] == [None, f"bytes={PART}-"]
