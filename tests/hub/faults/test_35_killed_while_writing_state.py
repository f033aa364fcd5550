from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.faults.harness import SHA256, Zoo
from tests.hub.faults.server import BODY, PART


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00 neither text nor a record \xff")


@pytest.mark.parametrize("spoil", [half, noise, Path.unlink])
def test_state_that_says_nothing_is_written_again(zoo: Zoo, spoil: Callable[[Path], None]) -> None:
    made = []

    def convert(source: Path, target: Path) -> None:
        made.append(target)
        target.write_bytes(source.read_bytes()[::-1])

    path = zoo.fetch("honest").path
    converted = zoo.store.converted(path, SHA256, "reverse", 1, convert)
    for state in ("verified", "origins", "conversions", "locks"):
        for file in (zoo.settings.home / state).iterdir():
            spoil(file)
    assert zoo.fetch("honest").path == path
    assert len(zoo.requests("honest")) == 1
    assert zoo.store.converted(path, SHA256, "reverse", 1, convert) == converted
    assert converted.read_bytes() == BODY[::-1] and len(made) == 2
    assert zoo.store.memo.digest(path.stat()) == SHA256
    assert {entry.sha256 for entry in zoo.store.entries()} == {path.name, converted.name}


@pytest.mark.parametrize("mark", [b"", b"\xff\xff", b"https://elsewhere.invalid/ \"x\"", b"\r\nHost: elsewhere"])
def test_a_mark_that_says_nothing_is_not_sent(zoo: Zoo, mark: bytes) -> None:
    with zoo.store.partial(*zoo.wanted) as partial:
        partial.write(BODY[:PART])
        partial.mark = "x"
    (path,) = zoo.store.partials.glob("*.mark")
    path.write_bytes(mark)
    zoo.fetch("honest")
    (request,) = zoo.requests("honest")
    assert request["range"] == f"bytes={PART}-" and "if-range" not in request
