from tests.hub.faults.harness import Zoo


def test_two_seconds_are_waited(zoo: Zoo) -> None:
    zoo.fetch("busy_two_seconds")
    assert len(zoo.requests("busy_two_seconds")) == 2  # the server would have turned an earlier one away
