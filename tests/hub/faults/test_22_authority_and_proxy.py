from pathlib import Path

import pytest

from bestiary.errors import SourceError
from tests.hub.faults.harness import Zoo


def test_one_that_the_environment_names_is_trusted(
    zoo: Zoo, tls_server: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    zoo.address = tls_server
    assert zoo.fetch("honest").origin.startswith("https://127.0.0.1:")


def test_one_that_nobody_named_is_not(zoo: Zoo, tls_server: str) -> None:
    zoo.address = tls_server
    assert "no secure connection" in zoo.failure("honest", kind=SourceError)


def test_the_proxy_of_the_environment_is_asked(zoo: Zoo, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "")
    zoo.address = "http://127.0.0.1:9"  # nobody listens there: only the proxy can have answered
    assert zoo.fetch("honest").origin == zoo.url("honest").address
