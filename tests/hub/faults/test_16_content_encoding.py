from bestiary.errors import SourceError
from tests.hub.faults.harness import Zoo


def test_an_encoding_that_was_not_asked_for_is_refused(zoo: Zoo) -> None:
    assert "encoding" in zoo.failure("encoded", kind=SourceError)
    assert zoo.requests("encoded")[0]["accept-encoding"] == "identity"
