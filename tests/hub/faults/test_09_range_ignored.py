from tests.hub.faults.harness import Zoo


def test_it_starts_again(zoo: Zoo) -> None:
    zoo.fetch("ignores_range")
    first, second = zoo.requests("ignores_range")
    assert "range" not in first and "range" in second
