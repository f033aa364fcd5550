import pytest

from tests.hub.faults.harness import Zoo


@pytest.mark.parametrize("behaviour", ["replaced", "replaced_without_if_range"])
def test_two_editions_are_never_joined(zoo: Zoo, behaviour: str) -> None:
    zoo.fetch(behaviour)
    assert zoo.requests(behaviour)[1]["if-range"] == '"an-earlier-edition"'
    assert zoo.quarantined() == []
