from tests.hub.faults.harness import Zoo


def test_a_reset_connection_is_resumed(zoo: Zoo) -> None:
    zoo.fetch("reset")
    first, second = zoo.requests("reset")
    assert "range" not in first and "range" in second
