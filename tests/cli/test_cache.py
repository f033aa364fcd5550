"""cache: what lies there, what is deleted and what is not, and what rotted."""

import os
from pathlib import Path

import pytest

from bestiary.hub.store import Store
from tests.cli.conftest import Zoo


@pytest.fixture
def filled(zoo: Zoo, served: str) -> Zoo:
    """Two models in the store that share a tokenizer."""
    zoo.add("griffin", {"griffin.safetensors": b"feather" * 100, "tokenizer.json": b"{}"}, source=f"url: {served}")
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle" * 100, "tokenizer.json": b"{}"}, source=f"url: {served}")
    assert zoo.run("pull", "griffin", "sphinx").returncode == 0
    return zoo


def _append(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes() + b"!")


def stored(zoo: Zoo) -> list[list[str]]:
    """The models of each file that the store holds."""
    return sorted(record["models"] for record in zoo.json("cache", "ls")["files"])


def blob(zoo: Zoo, content: bytes) -> Path:
    """Where a file with this content lies in the store."""
    (path,) = [path for path in (zoo.home / "blobs").iterdir() if path.read_bytes() == content]
    return path


def test_ls_names_the_models_of_a_file_and_its_origin(filled: Zoo, served: str) -> None:
    assert stored(filled) == [["griffin"], ["griffin", "sphinx"], ["sphinx"]]
    lines = filled.lines("cache", "ls")
    assert {len(line) for line in lines} == {6}
    assert all(len(line[0]) == 64 and served in line[5] for line in lines)


def test_df_adds_up(filled: Zoo) -> None:
    usage = {record["kind"]: record["size"] for record in filled.json("cache", "df")["usage"]}
    assert usage["files"] == usage["total"] == 700 + 600 + 2


def test_rm_deletes_the_files_of_a_model(filled: Zoo) -> None:
    assert filled.run("cache", "rm", "sphinx", "--yes").returncode == 0
    assert stored(filled) == [["griffin"]]


def test_rm_takes_conversions_along_and_says_so(filled: Zoo) -> None:
    store = Store(filled.home)
    source = blob(filled, b"riddle" * 100)
    store.converted(source, source.name, "copy", 1, _append)
    assert stored(filled) == [["griffin"], ["griffin", "sphinx"], ["sphinx"], ["sphinx"]]
    listed = filled.json("cache", "rm", "sphinx", "--yes")["files"]
    assert sorted((record["size"], record["kind"]) for record in listed) == [(2, "file"), (600, "file"), (601, "conversion")]
    assert stored(filled) == [["griffin"]]


def test_rm_of_what_is_not_there_says_so(filled: Zoo) -> None:
    assert filled.run("cache", "rm", "sphinx", "--yes").returncode == 0
    completed = filled.run("cache", "rm", "sphinx", "--yes")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "nothing to delete\n")


def test_rm_takes_the_beginning_of_a_digest(filled: Zoo) -> None:
    name = blob(filled, b"riddle" * 100).name
    assert filled.run("cache", "rm", name[:10], "--yes").returncode == 0
    assert stored(filled) == [["griffin"], ["griffin", "sphinx"]]


def test_a_dry_run_tells_and_deletes_nothing(filled: Zoo) -> None:
    listed = filled.json("cache", "rm", "sphinx", "--dry-run")["files"]
    assert sorted(record["size"] for record in listed) == [2, 600]
    assert len(stored(filled)) == 3


@pytest.mark.parametrize("verb", [["rm", "sphinx"], ["prune"]], ids=" ".join)
def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said(filled: Zoo, verb: list[str]) -> None:
    completed = filled.run("cache", *verb, stdin="y\n")
    assert completed.returncode == 2
    assert completed.stdout == ""
    assert "--yes" in completed.stderr
    assert len(stored(filled)) == 3


@pytest.mark.parametrize(("typed", "left"), [("n\n", 3), ("y\n", 1)])
def test_on_a_terminal_it_asks(filled: Zoo, typed: str, left: int) -> None:
    code, shown = filled.terminal("cache", "rm", "sphinx", typed=typed)
    assert code == 0
    assert "Delete these 2, 602 B?" in shown
    assert len(stored(filled)) == left


def test_prune_deletes_what_is_quarantined_and_keeps_the_rest(filled: Zoo) -> None:
    quarantined = filled.home / "quarantine" / ("0" * 64 + ".rotten")
    quarantined.parent.mkdir(exist_ok=True)
    quarantined.write_bytes(b"rot")
    ((path, size, reason),) = filled.lines("cache", "prune", "--yes")
    assert (path, size, reason) == (str(quarantined), "3", "quarantined")
    assert not quarantined.exists()
    assert len(stored(filled)) == 3


def test_prune_keeps_the_cache_limit_by_giving_up_what_was_not_used_for_longest(filled: Zoo) -> None:
    os.utime(blob(filled, b"feather" * 100), (0, 0))
    filled.environment["BESTIARY_CACHE_LIMIT"] = "650"
    assert filled.run("cache", "prune", "--yes").returncode == 0
    assert stored(filled) == [["griffin", "sphinx"], ["sphinx"]]


def test_verify_finds_the_rotten_file_and_says_so_with_5(filled: Zoo) -> None:
    rotten = blob(filled, b"riddle" * 100)
    rotten.chmod(0o644)
    rotten.write_bytes(b"Riddle" * 100)
    completed = filled.run("cache", "verify")
    assert completed.returncode == 5
    assert len(completed.stderr.splitlines()) <= 3
    states = {line[0]: line[2] for line in (line.split("\t") for line in completed.stdout.splitlines())}
    assert states.pop(rotten.name) == "rotten"
    assert set(states.values()) == {"sound"}
    assert len(stored(filled)) == 2
    assert filled.run("cache", "verify").returncode == 0
