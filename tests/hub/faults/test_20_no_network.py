import socket
from dataclasses import replace

import pytest

from bestiary.errors import OfflineError, SourceError
from bestiary.hub.card import SourceSpec
from bestiary.hub.fetch import fetch
from tests.hub.faults.harness import FILE, Zoo, card_of


def refusing() -> SourceSpec:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return SourceSpec(kind="url", address=f"http://127.0.0.1:{probe.getsockname()[1]}/files")


NAMELESS = SourceSpec(kind="url", address="https://no-such-host.invalid/files")


@pytest.mark.parametrize("spec", [refusing(), NAMELESS], ids=["refused", "no DNS"])
def test_a_cold_store_without_network_is_a_clear_error(zoo: Zoo, spec: SourceSpec) -> None:
    with pytest.raises(OfflineError) as caught:
        fetch(card_of(spec), zoo.settings)
    message = str(caught.value)
    assert message.splitlines()[1] == f"{spec.address}: {spec.address.split('/')[2]} cannot be reached"
    assert FILE.name in message and "network" in message and len(message.splitlines()) == 3
    assert zoo.blobs() == zoo.unfinished() == []


def test_a_server_that_answers_shows_that_there_is_a_network(zoo: Zoo) -> None:
    with pytest.raises(SourceError, match=r"cannot be reached.*answers 404"):
        fetch(card_of(refusing(), zoo.url("absent")), zoo.settings)


def test_offline_asks_nobody_and_says_who_could_be(zoo: Zoo) -> None:
    with pytest.raises(OfflineError) as caught:
        fetch(card_of(zoo.url("honest")), zoo.settings, offline=True)
    assert zoo.url("honest").address in str(caught.value) and "bestiary pull model" in str(caught.value)
    assert zoo.requests("honest") == []


def test_a_warm_store_needs_no_network(zoo: Zoo) -> None:
    first = zoo.fetch("honest")
    again = fetch(card_of(refusing()), replace(zoo.settings, offline=True))[FILE.name]
    assert again == first
