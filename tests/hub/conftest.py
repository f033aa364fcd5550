"""What tests of the hub stand on: a package index in a folder, a store of their own, a misbehaving server."""

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from bestiary.hub.sources.web import WebSource
from bestiary.hub.store import Store
from tests.hub.faults.harness import HASTE, Zoo, running_server


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
    with running_server() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that no authority knows."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.public"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.public").read_text())
    return path


@pytest.fixture(scope="session")
def tls_server(certificate: Path) -> Iterator[str]:
    with running_server(str(certificate)) as port:
        yield f"https://127.0.0.1:{port}"


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
