from bestiary.errors import IntegrityError
from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import BODY


def test_it_stops_at_the_size_of_the_card(zoo: Zoo) -> None:
    zoo.failure("endless", kind=IntegrityError)
    assert zoo.quarantined() == [bytes(len(BODY))]


def test_what_follows_the_right_bytes_is_never_read(zoo: Zoo) -> None:
    zoo.fetch("right_and_endless")
