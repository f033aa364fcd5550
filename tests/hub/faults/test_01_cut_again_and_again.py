from bestiary.errors import SourceError
from tests.hub.faults.harness import Zoo
from tests.hub.faults.server import BODY, ETAG, PART


def test_each_attempt_keeps_its_progress(zoo: Zoo) -> None:
    zoo.fetch("cut")
    requests = zoo.requests("cut")
    starts = [int(request.get("range", "bytes=0-")[6:-1]) for request in requests]
    assert starts == list(range(0, len(BODY), PART))
    assert [request.get("if-range") for request in requests] == [None] + [ETAG] * (len(starts) - 1)


def test_one_that_never_brings_anything_new_is_given_up(zoo: Zoo) -> None:
    message = zoo.failure("no_length_ever_short", kind=SourceError)
    assert f"ends after {PART} of {len(BODY)} bytes" in message
    assert len(zoo.requests("no_length_ever_short")) == 1 + 3


def test_what_one_source_left_is_continued_by_the_next(zoo: Zoo) -> None:
    assert zoo.fetch("no_length_ever_short", "honest").origin == zoo.url("honest").address
    assert [request["range"] for request in zoo.requests("honest")] == [f"bytes={PART}-"]
