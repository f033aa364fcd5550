"""run --save: what a model answers, drawn on the photo that it was asked about; the real classifier."""

import struct
import subprocess
import zlib
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
    ("path", "said"),
    [("out.doc", "out.doc ends like no picture and no transcript"), ("nowhere/out.png", "there is no folder nowhere")],
)
def test_what_cannot_be_written_is_refused_before_anything_is_computed(real: Zoo, path: str, said: str) -> None:
    completed = real.run("run", "no-such-model", PHOTO, "--save", path)
    assert completed.returncode == 11 and completed.stdout == ""
    assert said in completed.stderr and len(completed.stderr.splitlines()) <= 3


@pytest.mark.parametrize("name", ["out.blp", "out.xbm", "out.h5"])
def test_a_format_that_takes_no_photos_leaves_nothing_behind(real: Zoo, name: str) -> None:
    completed = run(real, PHOTO, "--save", name)
    assert completed.returncode == 11 and completed.stdout == ""
    assert f"{name} cannot be written" in completed.stderr and not (real.folder / name).exists()


def bad_images(folder: Path) -> None:
    """A photo that breaks off, some bytes that claim 50,000 × 50,000 pixels, a text, a strip."""
    (folder / "half.jpg").write_bytes(Path(PHOTO).read_bytes()[:9000])
    Image.new("1", (8, 8)).save(folder / "bomb.png")
    content = bytearray((folder / "bomb.png").read_bytes())
    content[16:24] = struct.pack(">II", 50_000, 50_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (folder / "bomb.png").write_bytes(content)
    (folder / "text.jpg").write_text("no photo")
    Image.new("RGB", (1, 500)).save(folder / "strip.png")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([PHOTO, "half.jpg", "--save", "out.png"], "half.jpg is a damaged image"),
        (["bomb.png"], "bomb.png has more pixels than are safe to read"),
        (["text.jpg"], "text.jpg is not an image that can be read"),
        (["strip.png"], "strip.png of 1 × 500 pixels is too long and thin"),
        (["nowhere.jpg"], "nowhere.jpg cannot be read: No such file"),
        (["."], ". cannot be read: Is a directory"),
        ([PHOTO, "--precision", "int8"], 'precision="int8" rounds matrices, and this net computes by convolutions'),
        ([PHOTO, "--precision", "fp8"], "precision='fp8' is not known"),
        ([PHOTO, "--device", "tpu"], "device='tpu' cannot be used here"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1].rpartition("/")[2],
)
def test_what_cannot_be_run_prints_no_result(real: Zoo, arguments: list[str], said: str) -> None:
    bad_images(real.folder)
    completed = run(real, *arguments)
    assert completed.returncode == 11 and completed.stdout == ""
    assert completed.stderr.startswith(f"error: {said}") and len(completed.stderr.splitlines()) <= 3
    assert not (real.folder / "out.png").exists()


def test_a_single_pixel_is_an_answer(real: Zoo) -> None:
    Image.new("RGB", (1, 1)).save(real.folder / "one.png")
    completed = run(real, "one.png", "--save", "out.png")
    assert completed.returncode == 0 and len(completed.stdout.splitlines()) == 5
    assert Image.open(real.folder / "out.png").width == 256


def test_a_result_that_has_no_picture_is_refused(real: Zoo, tmp_path: Path) -> None:
    import bestiary

    bestiary.load("efficientnet-lite0", device="cpu").embedder().save(tmp_path / "embedder")
    completed = real.run("run", f"{tmp_path}/embedder", PHOTO, "--save", "out.png")
    assert completed.returncode == 11 and completed.stdout == ""
    assert "there is nothing to write" in completed.stderr and not (real.folder / "out.png").exists()
