import pytest

from bestiary.hub.sources.web import Patience, WebSource
from tests.hub.faults.harness import Zoo


def test_a_day_is_not_waited(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSource, "patience", Patience(longest_pause=0.1))
    zoo.fetch("busy_a_day")
    assert len(zoo.requests("busy_a_day")) == 2
