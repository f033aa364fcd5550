"""A clone of another name, and environments that see every dependency but not this checkout's installation."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Environment:
    """A virtual environment to run commands in."""

    folder: Path

    def run(self, command: str, *arguments: str | Path, cwd: Path, **variables: str) -> str:
        """What a command of this environment prints; a command that fails, fails the test."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        program = Path(sysconfig.get_path("scripts", vars={"base": str(self.folder)})) / command
        completed = subprocess.run(
            [program, *arguments], cwd=cwd, env=inherited | variables, capture_output=True, encoding="utf-8", timeout=300
        )
        assert completed.returncode == 0, f"{command}: {completed.stdout}{completed.stderr}"
        return completed.stdout


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as it lies here, in a folder of another name."""
    folder = tmp_path_factory.mktemp("clone") / "a-zoo of another_name"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    return Path(shutil.copytree(ROOT, folder, ignore=ignored))


@pytest.fixture(scope="session")
def card_names() -> list[str]:
    """The names of the shipped cards, as their files say; older versions are not among them."""
    names = sorted(path.stem for path in (ROOT / "model_cards").glob("[a-z0-9]*.md") if "@" not in path.stem)
    assert names
    return names


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Environment]:
    """Makes environments that borrow the dependencies.

    A line of a `.pth` file adds a folder to the path, but `.pth` files inside that folder are not read: an editable
    installation of this checkout stays invisible.
    """

    def create() -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, symlinks=sys.platform != "win32")
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        borrowed = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
        (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
        return Environment(folder)

    return create
