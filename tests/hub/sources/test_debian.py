"""Packages of Debian by the user's apt-get: a real one, with an index of its own that knows small packages."""

import hashlib
from pathlib import Path

import pytest

from bestiary.errors import BestiaryError, CardError, IntegrityError, SourceError
from bestiary.hub.card import Card, File, SourceSpec, parse_card
from bestiary.hub.fetch import fetch
from bestiary.hub.names import is_debian_package
from bestiary.hub.settings import Settings
from bestiary.hub.sources import debian, open_source
from bestiary.hub.store import Store
from tests.debs import VERSION, deb_of, offer

CONTENT = deb_of({"./usr/share/zoo/cat.txt": b"miaow " * 5000})


def card_of(content: bytes, name: str = "small", version: str = VERSION, pinned: str | None = None) -> Card:
    digest = hashlib.sha256(content).hexdigest()
    file = File(name="small.deb", size=len(content), sha256=digest, role="archive")
    source = SourceSpec(kind="debian", address=f"{name}=={version}", sha256=pinned or digest)
    return Card(name="zoo", task="text-embedding", license="mit", files=(file,), sources=(source,), checked="weights")


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "debian"
    folder.mkdir()
    offer(folder, monkeypatch, {"small": CONTENT})
    return folder


def failure(tmp_path: Path, card: Card, kind: type[BestiaryError]) -> str:
    with pytest.raises(kind) as caught:
        fetch(card, Settings(home=tmp_path / "store"))
    assert type(caught.value) is kind and len(str(caught.value).splitlines()) <= 3
    assert not list((tmp_path / "store").glob("blobs/*"))
    return str(caught.value)


def test_the_archive_itself_is_the_file(tmp_path: Path, offered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    fetched = fetch(card_of(CONTENT), Settings(home=tmp_path / "store"))["small.deb"]
    assert fetched.path.read_bytes() == CONTENT and fetched.origin == f"Debian package small=={VERSION}"
    assert list(temporary.iterdir()) == []
    (offered / "small.deb").unlink()
    assert fetch(card_of(CONTENT), Settings(home=tmp_path / "store", offline=True))["small.deb"].path == fetched.path


def test_apt_is_asked_once_and_bytes_of_another_attempt_are_not_continued(tmp_path: Path, offered: Path) -> None:
    card, store = card_of(CONTENT), Store(tmp_path / "store")
    source = open_source(card.sources[0], card)
    for left in (b"", b"something else"):
        with store.partial(card.files[0].sha256, len(CONTENT)) as sink:
            sink.write(left)
            source.obtain(card.files[0], sink)
            assert sink.commit(source.label).read_bytes() == CONTENT
        (offered / "small.deb").unlink(missing_ok=True)
    source.close()


def test_another_archive_than_the_card_pins_is_refused(tmp_path: Path, offered: Path) -> None:
    assert "wrong bytes" in failure(tmp_path, card_of(deb_of({"./other": bytes(len(CONTENT))})), IntegrityError)


def test_what_apt_does_not_have_is_named(tmp_path: Path, offered: Path) -> None:
    assert "small==2.0-1" in failure(tmp_path, card_of(CONTENT, version="2.0-1"), SourceError)
    assert "Unable to locate package other" in failure(tmp_path, card_of(CONTENT, name="other"), SourceError)


def test_only_the_archive_is_given(tmp_path: Path, offered: Path) -> None:
    assert "is not small.deb" in failure(tmp_path, card_of(CONTENT, pinned="0" * 64), SourceError)


def test_a_machine_without_apt_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no apt-get" in failure(tmp_path, card_of(CONTENT), SourceError)


def test_what_apt_has_kept_is_used_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "ARCHIVES", tmp_path)
    kept = tmp_path / "small_1%3a1.0-1_all.deb"
    kept.write_bytes(CONTENT)
    card = card_of(CONTENT, version="1:1.0-1")
    assert fetch(card, Settings(home=tmp_path / "store", offline=True))["small.deb"].path == kept


@pytest.mark.parametrize("name", ["asterisk-core-sounds-en-wav==1.6.1-1", "g++==4:12.2.0-3", "zoo==1.0~rc1+dfsg-2"])
def test_names_of_packages(name: str) -> None:
    assert is_debian_package(name)


@pytest.mark.parametrize("name", ["small", "small=1", "-o==1.0", "small==-1", "Small==1", "./small==1", "small==1/x", "aa==1\n"])
def test_what_is_no_name_of_a_package(name: str) -> None:
    assert not is_debian_package(name)


def test_a_card_says_it_so() -> None:
    digest = "0" * 64
    text = f"""---
license: mit
bestiary:
  name: zoo
  task: text-embedding
  architecture: bert
  layout: transformers
  files: {{small.deb: {{size: 1, sha256: {digest}, role: archive}}}}
  sources: [{{debian: small==1.0-1, sha256: {digest}}}]
  checked: weights
---
"""
    card = parse_card(text, "zoo.md")
    assert card.sources == (SourceSpec(kind="debian", address="small==1.0-1", sha256=digest),)
    assert parse_card(card.to_markdown(), "zoo.md") == card
    for old, new, key in ((f", sha256: {digest}}}]", "}]", "sha256"), ("small==1.0-1", "small", "debian")):
        with pytest.raises(CardError, match=rf"sources\[0\]\.{key}"):
            parse_card(text.replace(old, new), "zoo.md")
