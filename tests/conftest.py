"""What every test stands on: one store of weights, kept between runs, and no setting of the person who runs them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

for name in [name for name in os.environ if name.startswith("BESTIARY_")]:
    del os.environ[name]
os.environ["BESTIARY_HOME"] = str(ROOT / "build" / "test-store")

# torch gives each process as many threads as there are cores; workers side by side have to share them.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.fixture
def dataset_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for cards of data sets, and the files beside them."""
    folder = tmp_path / "cards" / "datasets"
    folder.mkdir(parents=True)
    monkeypatch.setenv("BESTIARY_CARDS", str(folder.parent))
    monkeypatch.setenv("BESTIARY_HOME", str(tmp_path / "store"))
    return folder
