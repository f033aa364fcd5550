"""run --save: what a model answers, drawn on the photo that it was asked about; the real classifier."""

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Zoo
from tests.conftest import ROOT

PHOTO = str(ROOT / "scripts" / "chelsea.jpg")


@pytest.fixture
def real(zoo: Zoo) -> Zoo:
    """The shipped cards, and the store that holds their weights."""
    zoo.environment["BESTIARY_HOME"] = str(ROOT / "build" / "test-store")
    return zoo


def run(zoo: Zoo, *arguments: str) -> subprocess.CompletedProcess[str]:
    return zoo.run("run", "efficientnet-lite0", *arguments)


def test_the_picture_of_a_result_is_written_beside_what_is_printed(real: Zoo) -> None:
    completed = run(real, PHOTO, "--save", "out.png")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines()[0].split("\t")[2] == "tiger cat"
    picture = Image.open(real.folder / "out.png")
    assert picture.width == 451 and picture.height > 300
    photo = Image.open(PHOTO).convert("RGB")
    assert picture.crop((0, 0, 451, 300)).tobytes() == photo.tobytes()


def test_several_inputs_give_numbered_pictures(real: Zoo) -> None:
    (real.folder / "pictures").mkdir()
    completed = run(real, PHOTO, PHOTO, "--save", "pictures/cat.JPG")
    assert completed.returncode == 0, completed.stderr
    assert sorted(path.name for path in (real.folder / "pictures").iterdir()) == ["cat-1.JPG", "cat-2.JPG"]


@pytest.mark.parametrize(
    ("path", "said"), [("out.txt", "out.txt does not end like a picture"), ("nowhere/out.png", "there is no folder nowhere")]
)
def test_what_cannot_be_written_is_refused_before_anything_is_computed(real: Zoo, path: str, said: str) -> None:
    completed = real.run("run", "no-such-model", PHOTO, "--save", path)
    assert completed.returncode == 11 and completed.stdout == ""
    assert said in completed.stderr and len(completed.stderr.splitlines()) <= 3


def test_a_result_that_has_no_picture_is_refused(real: Zoo, tmp_path: Path) -> None:
    import bestiary

    bestiary.load("efficientnet-lite0", device="cpu").embedder().save(tmp_path / "embedder")
    completed = real.run("run", f"{tmp_path}/embedder", PHOTO, "--save", "out.png")
    assert completed.returncode == 11 and completed.stdout == ""
    assert "there is nothing to draw" in completed.stderr and not (real.folder / "out.png").exists()
