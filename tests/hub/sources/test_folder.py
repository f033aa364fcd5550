import hashlib
from pathlib import Path

import pytest

from bestiary.errors import CardError, IntegrityError, SourceError
from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.fetch import fetch
from bestiary.hub.settings import Settings
from bestiary.hub.sources import open_mirror, open_source

CONTENT = b"some weights"
FILE = File(name="model.bin", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), role="weights")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return Settings(home=tmp_path / "home")


def card(path: Path, *specs: SourceSpec) -> Card:
    return Card(
        name="model", task="text-embedding", license="cc0-1.0", architecture="bert", layout="transformers", checked="weights",
        files=(FILE,), sources=specs, path=path,
    )  # fmt: skip


def test_a_folder_is_relative_to_the_card_and_used_in_place(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "weights" / "renamed.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    spec = SourceSpec(kind="path", address="weights", names={"model.bin": "renamed.bin"})
    fetched = fetch(card(tmp_path / "model.md", spec), settings, offline=True)["model.bin"]
    assert (fetched.path, fetched.origin, fetched.file) == (path, f"folder {tmp_path / 'weights'}", FILE)
    assert not (settings.home / "blobs").exists()


def test_a_wrong_file_is_refused_and_left_where_it_lies(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(IntegrityError, match=str(path)) as caught:
        fetch(card(tmp_path / "model.md", SourceSpec(kind="path", address=".")), settings)
    assert len(str(caught.value).splitlines()) == 3
    assert path.read_bytes() == CONTENT[::-1] and not (settings.home / "quarantine").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SourceError, match=str(tmp_path / "model.bin")):
        fetch(card(tmp_path / "model.md", SourceSpec(kind="path", address=".")), settings)


def test_a_folder_mirror_keeps_files_by_digest(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "stick" / "sha256" / str(FILE.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    with_mirror = Settings(home=settings.home, mirrors=(str(tmp_path / "stick"),))
    fetched = fetch(card(tmp_path / "model.md", SourceSpec(kind="url", address="https://nowhere.invalid")), with_mirror)
    assert (fetched["model.bin"].path, fetched["model.bin"].origin) == (path, f"mirror {tmp_path / 'stick'}")


def test_the_table_of_kinds(tmp_path: Path) -> None:
    here = card(tmp_path / "model.md")
    for kind, address, remote in (("url", "https://models.example/x", True), ("path", ".", False)):
        assert open_source(SourceSpec(kind=kind, address=address), here).remote is remote
    assert open_mirror("https://models.example/").remote and not open_mirror(str(tmp_path)).remote
    with pytest.raises(CardError, match=r"unknown kind 'ftp'.*\n.*package, debian, hf, url, path"):
        open_source(SourceSpec(kind="ftp", address="x"), here)
