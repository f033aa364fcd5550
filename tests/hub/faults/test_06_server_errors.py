from bestiary.errors import SourceError
from tests.hub.faults.harness import HASTE, Zoo


def test_a_passing_one_is_waited_for(zoo: Zoo) -> None:
    zoo.fetch("broken_once")
    assert len(zoo.requests("broken_once")) == 2


def test_a_lasting_one_leads_to_the_next_source(zoo: Zoo) -> None:
    assert zoo.fetch("broken", "honest").origin == zoo.url("honest").address
    assert len(zoo.requests("broken")) == HASTE.tries


def test_without_another_source_it_is_an_error_that_names_all_of_them(zoo: Zoo) -> None:
    message = zoo.failure("broken", "absent", kind=SourceError)
    assert f"{zoo.url('broken').address}/model.bin answers 503" in message
    assert f"{zoo.url('absent').address}/model.bin answers 404" in message
    assert len(zoo.requests("absent")) == 1  # nothing says that it will be there in a moment
