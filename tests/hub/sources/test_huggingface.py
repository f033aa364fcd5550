"""The Hugging Face source against a server on this machine that answers as the hub does; the library runs in a process of
its own, since it reads its settings when it is imported."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bestiary import errors
from tests.huggingface import COMMIT, Hub, running_hub

ROOT = Path(__file__).parents[3]
CONTENT = b"weights " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()

CLIENT = """
import json, sys
from bestiary.errors import BestiaryError
from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.sources import open_source
name, size, sha256, revision = sys.argv[1], *json.loads(sys.argv[2])
spec = SourceSpec(kind="hf", address="zoo/tiny", revision=revision, names={"model.bin": name})
file = File(name="model.bin", size=size, sha256=sha256, role="weights")
card = Card(name="tiny", task="text-embedding", license="mit", files=(file,), sources=(spec,), checked="weights")
source = open_source(spec, card)
assert source.remote
try:
    print(json.dumps({"path": str(source.obtain(file, None)), "label": source.label}))
except BestiaryError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub({"model.bin": CONTENT}) as hub:
        yield hub


def obtain(
    url: str,
    home: Path,
    *,
    name: str = "model.bin",
    size: int | None = len(CONTENT),
    sha256: str | None = DIGEST,
    **settings: str,
) -> dict[str, Any]:
    """What the source says in a process of its own, whose cache is in `home`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = inherited | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | settings
    command = [sys.executable, "-c", CLIENT, name, json.dumps([size, sha256, COMMIT])]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def failure(answer: dict[str, Any], kind: type[errors.BestiaryError]) -> str:
    assert answer.get("error") == kind.__name__, answer
    message: str = answer["message"]
    assert "zoo/tiny" in message and 2 <= len(message.splitlines()) <= 3
    return message


def downloads(hub: Hub) -> int:
    return sum(request.startswith("GET") and request.endswith("model.bin") for request in hub.requests)


def test_a_file_is_fetched_once_and_used_in_the_cache(hub: Hub, tmp_path: Path) -> None:
    first = obtain(hub.url, tmp_path)
    assert Path(first["path"]).read_bytes() == CONTENT
    assert Path(first["path"]).is_relative_to(tmp_path) and "zoo/tiny" in first["label"]
    assert obtain(hub.url, tmp_path) == first
    assert downloads(hub) == 1


def test_the_name_at_the_source_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"pytorch_model.bin": CONTENT}
    assert obtain(hub.url, tmp_path, name="pytorch_model.bin")["path"].endswith("pytorch_model.bin")


def test_what_is_cached_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    first = obtain(hub.url, tmp_path)
    assert obtain("http://127.0.0.1:9", tmp_path) == first
    assert obtain(hub.url, tmp_path, HF_HUB_OFFLINE="1") == first


@pytest.mark.parametrize("rotten", [CONTENT[:-1], CONTENT[:-1] + b"?"], ids=["shorter", "one byte wrong"])
def test_a_rotten_entry_of_the_cache_is_fetched_again_once(hub: Hub, tmp_path: Path, rotten: bytes) -> None:
    path = Path(obtain(hub.url, tmp_path)["path"])
    path.resolve().write_bytes(rotten)
    assert Path(obtain(hub.url, tmp_path)["path"]).read_bytes() == CONTENT
    assert downloads(hub) == 2


def test_a_hub_that_lies_is_asked_once_a_time(hub: Hub, tmp_path: Path) -> None:
    """What it gives goes to the caller, who verifies; nothing turns in circles."""
    hub.files = {"model.bin": CONTENT[:-1] + b"?"}
    assert Path(obtain(hub.url, tmp_path)["path"]).read_bytes() != CONTENT
    assert downloads(hub) == 1
    assert Path(obtain(hub.url, tmp_path)["path"]).read_bytes() != CONTENT
    assert downloads(hub) == 2


def test_a_rotten_entry_without_a_network_is_an_error(hub: Hub, tmp_path: Path) -> None:
    Path(obtain(hub.url, tmp_path)["path"]).resolve().write_bytes(b"rotten")
    failure(obtain("http://127.0.0.1:9", tmp_path), errors.OfflineError)
    failure(obtain(hub.url, tmp_path, HF_HUB_OFFLINE="1"), errors.OfflineError)


def test_a_file_that_no_card_pins_is_taken_as_it_is(hub: Hub, tmp_path: Path) -> None:
    first = obtain(hub.url, tmp_path, size=None, sha256=None)
    assert Path(first["path"]).read_bytes() == CONTENT
    obtain(hub.url, tmp_path, size=None, sha256=None)
    assert downloads(hub) == 1


def test_no_network_is_called_that(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert "cannot be reached" in failure(obtain(url, tmp_path), errors.OfflineError)
    assert "cannot be reached" in failure(obtain(url, tmp_path, HF_HUB_OFFLINE="1"), errors.OfflineError)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (404, "RepoNotFound", "does not exist, or is private"),
        (401, "", "HF_TOKEN"),
        (403, "", "HF_TOKEN"),
        (403, "GatedRepo", "accept its terms"),
        (404, "RevisionNotFound", f"no revision {COMMIT}"),
        (418, "", "answers 418"),
        pytest.param(503, "", "answers 503", marks=pytest.mark.full),  # the library tries for half a minute
    ],
)
def test_what_the_hub_refuses_is_said_in_our_words(hub: Hub, tmp_path: Path, status: int, reason: str, words: str) -> None:
    hub.status, hub.reason = status, reason
    assert words in failure(obtain(hub.url, tmp_path), errors.SourceError)


def test_a_file_that_is_not_in_the_repository_is_named(hub: Hub, tmp_path: Path) -> None:
    assert "no file other.bin" in failure(obtain(hub.url, tmp_path, name="other.bin"), errors.SourceError)


def test_a_server_that_is_no_hub_is_an_error(hub: Hub, tmp_path: Path) -> None:
    hub.commit = ""
    assert "did not yield model.bin" in failure(obtain(hub.url, tmp_path), errors.SourceError)
