from bestiary.errors import IntegrityError
from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import BODY

FLIPPED = bytes([BODY[0] ^ 1]) + BODY[1:]


def test_the_bytes_are_put_away_and_the_liar_is_named(zoo: Zoo) -> None:
    message = zoo.failure("flipped", kind=IntegrityError)
    assert zoo.url("flipped").address in message
    assert zoo.quarantined() == [FLIPPED]
    assert zoo.unfinished() == []


def test_the_next_source_delivers(zoo: Zoo) -> None:
    assert zoo.fetch("flipped", "honest").origin == zoo.url("honest").address
    assert zoo.quarantined() == [FLIPPED]
    assert "range" not in zoo.requests("honest")[0]


def test_a_liar_is_named_beside_a_source_that_fails_otherwise(zoo: Zoo) -> None:
    message = zoo.failure("flipped", "broken", kind=IntegrityError)
    assert f"{zoo.url('flipped').address} gave" in message and "answers 503" in message


def test_a_source_is_not_blamed_for_what_another_one_left(zoo: Zoo) -> None:
    with zoo.store.partial(*zoo.wanted) as partial:
        partial.write(bytes(1000))
    assert zoo.fetch("honest").origin == zoo.url("honest").address
    assert [request.get("range") for request in zoo.requests("honest")] == ["bytes=1000-", None]


def test_a_source_that_lies_again_and_again_does_not_fill_the_disk(zoo: Zoo) -> None:
    for _ in range(3):
        zoo.failure("flipped", kind=IntegrityError)
    assert zoo.quarantined() == [FLIPPED]
