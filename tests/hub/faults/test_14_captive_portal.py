from bestiary.errors import IntegrityError
from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import BODY


def test_a_page_is_not_taken_for_the_file(zoo: Zoo) -> None:
    message = zoo.failure("portal", kind=IntegrityError)
    assert f"bytes where the card says {len(BODY)}" in message
    assert zoo.fetch("portal", "honest").origin == zoo.url("honest").address
