from pathlib import Path

import pytest

from bestiary.errors import SourceError
from tests.hub.faults.harness import Zoo


@pytest.mark.parametrize("behaviour", ["to_plain_http", "to_file"])
def test_only_https_is_followed_to_other_machines(zoo: Zoo, behaviour: str) -> None:
    assert "redirects to an address that is not https" in zoo.failure(behaviour, kind=SourceError)


def test_from_https_not_even_to_this_machine(
    zoo: Zoo, tls_server: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    zoo.address = tls_server
    assert "redirects to an address that is not https" in zoo.failure("to_this_machine", kind=SourceError)
