"""Sources in order, files without a digest, progress; what goes wrong is in faults/."""

from dataclasses import replace
from pathlib import Path

import pytest

from bestiary.hub.card import SourceSpec
from bestiary.hub.fetch import fetch
from bestiary.hub.progress import Silent
from tests.hub.faults.harness import FILE, SHA256, Zoo, card_of
from tests.hub.faults.server import BODY


class Listener(Silent):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def begin(self, name: str, size: int | None) -> None:
        self.heard.append((name, size))

    def at(self, done: int) -> None:
        self.heard.append(done)

    def end(self) -> None:
        self.heard.append("end")


def test_what_needs_no_network_is_asked_first(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(BODY)
    card = card_of(zoo.url("honest"), SourceSpec(kind="path", address=str(tmp_path)))
    assert fetch(card, zoo.settings)[FILE.name].path == tmp_path / FILE.name
    assert zoo.requests("honest") == []


def test_the_cards_order_of_remote_sources_is_kept_and_mirrors_come_last(zoo: Zoo) -> None:
    mirror = f"{zoo.address}/honest/{zoo.test}"
    settings = replace(zoo.settings, mirrors=(mirror,))
    fetched = fetch(card_of(zoo.url("absent"), zoo.url("broken")), settings)[FILE.name]
    assert fetched.origin == f"mirror {mirror}"
    assert len(zoo.requests("absent")) == 1 and len(zoo.requests("broken")) == 3
    assert len(zoo.requests("honest", f"sha256/{SHA256}")) == 1


def test_the_caches_of_other_libraries_are_used_in_place(zoo: Zoo, tmp_path: Path) -> None:
    blob = tmp_path / "huggingface" / "hub" / "models--someone--something" / "blobs" / SHA256
    blob.parent.mkdir(parents=True)
    blob.write_bytes(BODY)
    fetched = fetch(card_of(zoo.url("honest")), zoo.settings, offline=True)[FILE.name]
    assert (fetched.path, fetched.origin) == (blob, "cache of huggingface_hub")
    blob.write_bytes(BODY[::-1])
    assert zoo.fetch("honest").origin == zoo.url("honest").address
    assert blob.read_bytes() == BODY[::-1] and zoo.quarantined() == []


def test_a_file_without_a_digest_is_taken_as_it_comes(zoo: Zoo, tmp_path: Path) -> None:
    unknown = replace(FILE, size=None, sha256=None)
    fetched = fetch(card_of(zoo.url("honest"), file=unknown), zoo.settings)[FILE.name]
    assert fetched.file == FILE and fetched.path == zoo.store.blobs / SHA256
    fetch(card_of(zoo.url("honest"), file=unknown), zoo.settings)
    assert len(zoo.requests("honest")) == 2  # nothing says that it is still the same

    (tmp_path / FILE.name).write_bytes(BODY)
    card = card_of(SourceSpec(kind="path", address=str(tmp_path)), file=unknown)
    assert fetch(card, zoo.settings)[FILE.name].file == FILE


@pytest.mark.parametrize("behaviour", ["cut", "honest"])
def test_progress_tells_how_far_it_is(zoo: Zoo, behaviour: str) -> None:
    listener = Listener()
    card = card_of(zoo.url(behaviour))
    fetch(card, zoo.settings, progress=listener)
    begin, *steps, end = listener.heard
    assert begin == (FILE.name, len(BODY)) and end == "end"
    assert steps == sorted(set(steps)) and steps[-1] == len(BODY)  # type: ignore[type-var]
    fetch(card, zoo.settings, progress=listener)
    assert listener.heard[-1] == "end" and listener.heard.count("end") == 1  # what is there needs no bar


def test_only_the_files_asked_for(zoo: Zoo) -> None:
    card = replace(card_of(zoo.url("honest")), files=(FILE, replace(FILE, name="other.bin", sha256="0" * 64)))
    assert list(fetch(card, zoo.settings, files=[FILE])) == [FILE.name]
