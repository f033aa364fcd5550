"""What tests of the hub stand on: a package index in a folder, a store of their own, a misbehaving server."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from bestiary.hub.sources.web import WebSource
from bestiary.hub.store import Store
from tests.hub.faults.harness import HASTE, ROOT, Zoo


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the only place where pip looks for wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    for variable, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(folder), "NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(f"PIP_{variable}", value)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.hub.faults.server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        process.wait(10)


@pytest.fixture
def zoo(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.setattr(WebSource, "patience", HASTE)
    # What lies on the machine of whoever runs the tests is no part of them.
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return Zoo(tmp_path, server)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts real processes, quickly: they are forked off one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.hub.faults.harness"])
    return context
