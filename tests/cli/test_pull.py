"""pull and verify: files that come, and files that are what they should be."""

import os
import re
from pathlib import Path

import pytest

from bestiary.hub.store import Store
from tests.cli.conftest import Zoo


@pytest.fixture
def sphinx(zoo: Zoo, served: str) -> Zoo:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle", "tokenizer.json": b"{}"}, source=f"url: {served}")
    return zoo


def test_pull_tells_where_the_bytes_came_from(sphinx: Zoo, served: str) -> None:
    weights, tokenizer = sphinx.lines("pull", "sphinx")
    assert weights[:3] == ["sphinx", "sphinx.safetensors", "6"]
    assert served in weights[3]
    assert Path(weights[4]).read_bytes() == b"riddle"
    assert Path(tokenizer[4]).read_bytes() == b"{}"


def test_a_second_pull_needs_no_network_and_still_knows_the_origin(sphinx: Zoo, served: str) -> None:
    assert sphinx.run("pull", "sphinx").returncode == 0
    files = sphinx.json("pull", "sphinx", "--offline")["files"]
    assert [served in file["origin"] for file in files] == [True, True]


def test_pull_of_several_names_checks_them_all_first(sphinx: Zoo) -> None:
    assert sphinx.run("pull", "sphinx", "sfinx").returncode == 3
    assert not sphinx.home.exists()


def test_pull_through_a_pipe_says_nothing_but_the_data(sphinx: Zoo) -> None:
    assert sphinx.run("pull", "sphinx").stderr == ""
    assert sphinx.run("pull", "sphinx", "-q").stdout.split() == ["sphinx"]


def test_a_licence_to_accept_is_asked_for(sphinx: Zoo) -> None:
    card = sphinx.cards / "sphinx.md"
    card.write_text(card.read_text().replace("  checked: weights", "  checked: weights\n  accept_license: true"))
    refused = sphinx.run("pull", "sphinx")
    assert refused.returncode == 8
    assert "--accept-license" in refused.stderr
    assert sphinx.run("pull", "sphinx", "--accept-license").returncode == 0


def test_what_nothing_pins_is_pinned_when_trusted(sphinx: Zoo) -> None:
    card = sphinx.cards / "sphinx.md"
    text = re.sub(r"\{size: \d+, sha256: \w+, ", "{", card.read_text())
    # The folder beside the card is asked first, so no hub is needed.
    sources = "  sources:\n    - path: .\n    - {hf: zoo/sphinx, revision: main}"
    text = text.replace("  sources:", f"  pinned: false\n{sources}")
    card.write_text(text)
    refused = sphinx.run("pull", "sphinx", "--offline")
    assert refused.returncode == 5
    assert "--trust first-use" in refused.stderr
    assert sphinx.run("pull", "sphinx", "--trust", "first-use").returncode == 0
    assert "sphinx.safetensors" in (sphinx.folder / "bestiary.lock").read_text()
    assert sphinx.run("pull", "sphinx").returncode == 0
    (sphinx.cards / "sphinx.safetensors").write_bytes(b"riddl3")
    assert sphinx.run("pull", "sphinx", "--offline").returncode == 5


def test_verify_of_sound_files(sphinx: Zoo) -> None:
    assert sphinx.run("pull", "sphinx").returncode == 0
    assert [line[3] for line in sphinx.lines("verify", "sphinx")] == ["sound", "sound"]


def test_verify_of_files_that_are_used_where_they_lie(zoo: Zoo) -> None:
    zoo.add("griffin", {"griffin.safetensors": b"feather"})
    assert [line[3] for line in zoo.lines("verify", "griffin")] == ["sound"]
    (zoo.cards / "griffin.safetensors").write_bytes(b"Feather")
    completed = zoo.run("verify", "griffin")
    assert completed.returncode == 5
    assert completed.stdout.split("\t")[3] == "rotten"


def test_verify_reads_again_what_was_found_right_a_moment_ago(sphinx: Zoo) -> None:
    assert sphinx.run("pull", "sphinx").returncode == 0
    (blob,) = [path for path in (sphinx.home / "blobs").iterdir() if path.read_bytes() == b"riddle"]
    before = blob.stat()
    blob.chmod(0o644)
    blob.write_bytes(b"Riddle")
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    completed = sphinx.run("verify", "sphinx")
    assert completed.returncode == 5
    assert [line.split("\t")[3] for line in completed.stdout.splitlines()] == ["rotten", "sound"]
    assert "bestiary pull sphinx" in completed.stderr
    assert sphinx.run("pull", "sphinx").returncode == 0
    assert sphinx.run("verify", "sphinx").returncode == 0


def test_verify_downloads_nothing(sphinx: Zoo) -> None:
    completed = sphinx.run("verify", "sphinx")
    assert completed.returncode == 7
    assert {line.split("\t")[3] for line in completed.stdout.splitlines()} == {"absent"}
    assert not (sphinx.home / "blobs").exists()


def _reverse(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[::-1])


def test_verify_reads_what_was_converted_too(sphinx: Zoo) -> None:
    assert sphinx.run("pull", "sphinx").returncode == 0
    store = Store(sphinx.home)
    (source,) = [entry for entry in store.entries() if entry.path.read_bytes() == b"riddle"]
    made = store.converted(source.path, source.sha256, "reversed", 1, _reverse)
    assert [line[1] for line in sphinx.lines("verify", "sphinx")] == [
        "sphinx.safetensors", "sphinx.safetensors, converted", "tokenizer.json",
    ]  # fmt: skip
    made.chmod(0o644)
    made.write_bytes(b"elddiR")
    completed = sphinx.run("verify", "sphinx")
    assert completed.returncode == 5
    assert [line.split("\t")[3] for line in completed.stdout.splitlines()] == ["sound", "rotten", "sound"]
