from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import PART


def test_a_part_that_was_not_asked_for_is_never_joined(zoo: Zoo) -> None:
    zoo.fetch("other_range")
    assert [request.get("range") for request in zoo.requests("other_range")] == [None, f"bytes={PART}-", None]
    assert zoo.quarantined() == []  # refused before a byte of it was read
