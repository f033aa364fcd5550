from bestiary.errors import SourceError
from bestiary.hub.sources.web import REDIRECTS
from tests.hub.faults.harness import Zoo


def test_one_is_followed_and_the_address_of_the_card_is_recorded(zoo: Zoo) -> None:
    assert zoo.fetch("moved").origin == zoo.url("moved").address


def test_a_loop_is_left(zoo: Zoo) -> None:
    assert f"redirects more than {REDIRECTS} times" in zoo.failure("loop", kind=SourceError)
    assert len(zoo.requests("loop")) == REDIRECTS + 1
