"""The wheel and the editable installation: whole, from a clone of any name, each in an environment of its own."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.conftest import Environment

PIP = ("-m", "pip", "--quiet", "--no-input")
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation")
TRAVELS = {"bestiary": "bestiary", "scripts": "bestiary/scripts", "model_cards": "bestiary/model_cards"}


@pytest.fixture(scope="module")
def wheel(clone: Path, new_environment: Callable[[], Environment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    new_environment().run("python", *PIP, "wheel", *OFFLINE, "--wheel-dir", folder, ".", cwd=clone)
    (wheel,) = folder.glob("bestiary-*.whl")
    return wheel


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, clone: Path, new_environment: Callable[[], Environment]) -> Environment:
    """An environment in which Bestiary is installed, either way."""
    environment = new_environment()
    what = [request.getfixturevalue("wheel")] if request.param == "wheel" else ["--editable", clone]
    environment.run("python", *PIP, "install", *OFFLINE, "--ignore-installed", *what, cwd=environment.folder)
    return environment


def test_the_wheel_holds_every_file_of_the_package(wheel: Path, clone: Path) -> None:
    expected = {
        (Path(target) / path.relative_to(clone / source)).as_posix()
        for source, target in TRAVELS.items()
        for path in (clone / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_the_installed_command_lists_the_cards(installed: Environment, card_names: list[str]) -> None:
    assert installed.run("bestiary", "ls", "-q", cwd=installed.folder).split() == card_names


def test_the_version_is_the_package_s(installed: Environment) -> None:
    program = "import bestiary, importlib.metadata as m; print(bestiary.__version__, m.version('bestiary'))"
    package, distribution = installed.run("python", "-c", program, cwd=installed.folder).split()
    assert package == distribution


def test_the_scripts_run_from_the_installed_package(installed: Environment) -> None:
    printed = installed.run("python", "-m", "bestiary.scripts.demo", cwd=installed.folder, TMPDIR=str(installed.folder))
    assert "tabby" in printed and "password," in printed
    (folder,) = installed.folder.glob("bestiary-*")
    assert {path.name for path in folder.iterdir()} == {"explained.png", "eyes.png", "speech.srt"}
