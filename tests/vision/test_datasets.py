"""Images of one's own, in each form in which people keep them, and what is wrong with them; and data sets by name."""

import io
import json
import os
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import datasets as library
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bestiary.core.archives import PACKED, members
from bestiary.errors import InputError, IntegrityError, OfflineError, UnknownDataset
from bestiary.vision import datasets
from bestiary.vision.images import read_image
from tests.huggingface import running_hub


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def encoded(colour: int, kind: str = "PNG") -> bytes:
    """A photo of 6 × 4 pixels whose red is `colour`."""
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (colour, 0, 0)).save(file, kind)
    return file.getvalue()


def write(path: str, content: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


def embedded(rows: library.Dataset) -> library.Dataset:
    """The rows with the bytes of their images in them, as `datasets` sends them to a hub."""
    return rows.with_format("arrow").map(library.table.embed_table_storage, batched=True).with_format(None)


def reds(rows) -> list[int]:
    return [row["image"].getpixel((0, 0))[0] for row in rows]


def fill(folder: str, photos: dict[str, int]) -> None:
    for name, colour in photos.items():
        write(f"{folder}/{name}", encoded(colour))


PHOTOS = {"dog/1.png": 10, "cat/2.png": 20, "cat/deeper/3.PNG": 30, "owl/4.png": 40}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_for_each_class(streaming: bool) -> None:
    fill("photos", PHOTOS)
    write("photos/readme.txt", b"Beasts.")
    write("photos/.hidden/5.png", b"")
    rows = datasets.load("./photos", streaming=streaming)
    assert isinstance(rows, torch.utils.data.IterableDataset if streaming else library.Dataset)
    assert rows.features["label"].names == ["cat", "dog", "owl"]
    assert [(red, row["label"]) for red, row in zip(reds(rows), rows, strict=True)] == [(20, 0), (30, 0), (10, 1), (40, 2)]
    assert all(row["image"].mode == "RGB" and row["image"].size == (6, 4) for row in rows)
    assert list(datasets.load("./photos", streaming=streaming, columns=["label"])) == [{"label": n} for n in (0, 0, 1, 2)]


def test_folders_named_as_splits_hold_splits_and_number_the_classes_alike() -> None:
    fill("photos", {f"{split}/{name}": colour for split in ("train", "val") for name, colour in PHOTOS.items()})
    fill("photos", {"test/owl/5.png": 50})
    assert reds(datasets.load("./photos", "validation")) == [20, 30, 10, 40]
    test = datasets.load("./photos", "test")
    assert (reds(test), test["label"][:], test.features["label"].names) == ([50], [2], ["cat", "dog", "owl"])
    with pytest.raises(InputError, match="no split 'dev'\nits splits: test, train, validation"):
        datasets.load("./photos", "dev")


def test_a_train_among_cars_is_a_class() -> None:
    fill("vehicles", {"car/1.png": 1, "train/2.png": 2})
    rows = datasets.load("./vehicles")
    assert rows.features["label"].names == ["car", "train"] and reds(rows) == [1, 2]


def test_images_without_classes_have_no_label() -> None:
    fill("frames", {"1.png": 1, "2.png": 2})
    assert datasets.load("./frames").column_names == ["image"]


def test_a_link_to_a_folder_is_followed_once() -> None:
    fill("photos", PHOTOS)
    fill("elsewhere", {"6.png": 60})
    os.symlink("../elsewhere", "photos/bat")
    os.symlink("..", "photos/cat/loop")
    assert reds(datasets.load("./photos")) == [60, 20, 30, 10, 40]


def test_images_are_read_when_their_row_is_asked_for() -> None:
    fill("photos", PHOTOS)
    write("photos/cat/9.png", b"no image")
    rows = datasets.load("./photos")
    assert len(rows) == 5 and rows[0]["image"].size == (6, 4) and rows["label"][:] == [0, 0, 0, 1, 2]
    with pytest.raises(InputError, match=r"photos/cat/9\.png is not an image"):
        rows[1]


def hundred() -> None:
    fill("photos", {f"{'cat' if number % 2 == 0 else 'dog'}/{number:03}.png": number for number in range(100)})
    write("photos/cat/042.png", encoded(42)[:40])


def test_one_image_in_a_hundred_is_damaged() -> None:
    hundred()
    with pytest.raises(InputError, match=r"cat/042\.png") as caught:
        reds(datasets.load("./photos"))
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.warns(UserWarning, match=r"skipped 1 of 100 images that cannot be read: .*cat/042\.png$"):
        rows = datasets.load("./photos", errors="skip")
    assert len(rows) == 99 and sorted(reds(rows)) == [*range(42), *range(43, 100)]
    assert sum(len(batch) for batch in DataLoader(rows, batch_size=8, collate_fn=list)) == 99


def test_a_stream_goes_on_over_a_damaged_image_and_names_it() -> None:
    hundred()
    rows = datasets.load("./photos", streaming=True, errors="skip")
    with pytest.warns(UserWarning, match=r"skipped: .*cat/042\.png"):
        seen = list(rows)
    assert sorted(reds(seen)) == [*range(42), *range(43, 100)] and {row["label"] for row in seen} == {0, 1}
    with pytest.raises(InputError, match=r"cat/042\.png"):
        list(datasets.load("./photos", streaming=True))


def pixels(batch):
    return {"pixels": [torch.from_numpy(np.array(image)) for image in batch["image"]], "label": batch["label"]}


def test_loaders_of_torch_take_rows_and_streams() -> None:
    fill("photos", PHOTOS)
    rows = datasets.load("./photos").with_transform(pixels)
    batch = next(iter(DataLoader(rows, batch_size=4)))
    assert batch["pixels"].shape == (4, 4, 6, 3) and batch["pixels"][:, 0, 0, 0].tolist() == [20, 30, 10, 40]
    assert batch["label"].tolist() == [0, 0, 1, 2]
    stream = datasets.load("./photos", streaming=True).map(pixels, batched=True, remove_columns=["image"])
    seen = [row for batch in DataLoader(stream, batch_size=1, num_workers=2, collate_fn=list) for row in batch]
    assert sorted(int(row["pixels"][0][0][0]) for row in seen) == [10, 20, 30, 40]


TABLES = {
    "photos.csv": "file,breed\ndog/1.png,dog\ncat/2.png,cat\n",
    "photos.tsv": "file\tbreed\ndog/1.png\tdog\ncat/2.png\tcat\n",
    "photos.jsonl": '{"file": "dog/1.png", "breed": "dog"}\n{"file": "cat/2.png", "breed": "cat"}\n',
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", [*TABLES, "photos.parquet"])
def test_a_table_of_paths(name: str, streaming: bool) -> None:
    fill("album", PHOTOS)
    if name in TABLES:
        Path("album", name).write_text(TABLES[name])
    else:
        library.Dataset.from_dict({"file": ["dog/1.png", "cat/2.png"], "breed": ["dog", "cat"]}).to_parquet(f"album/{name}")
    rows = datasets.load(f"album/{name}", image="file", label="breed", streaming=streaming)
    assert rows.features["label"].names == ["cat", "dog"]
    assert [(red, row["label"]) for red, row in zip(reds(rows), rows, strict=True)] == [(10, 1), (20, 0)]


def test_a_table_in_a_folder_says_what_its_images_are() -> None:
    fill("album", PHOTOS)
    Path("album/train.csv").write_text("image,label\ndog/1.png,dog\nowl/4.png,owl\n")
    Path("album/test.csv").write_text("image,label\ncat/2.png,cat\n")
    rows = datasets.load("./album")
    assert rows.features["label"].names == ["cat", "dog", "owl"]  # `cat` is in the other split alone
    assert (rows["label"][:], reds(rows)) == ([1, 2], [10, 40])
    assert datasets.load("./album", "test")["label"][:] == [0]


@pytest.mark.parametrize("streaming", [False, True])
def test_images_in_parquet_and_saved_by_datasets(streaming: bool) -> None:
    fill("photos", PHOTOS)
    rows = embedded(datasets.load("./photos"))
    rows.to_parquet("held.parquet")
    rows.save_to_disk("saved")
    library.DatasetDict({"test": rows}).save_to_disk("saved_splits")
    for name, split in (("held.parquet", "train"), ("./saved", "train"), ("./saved_splits", "test")):
        again = datasets.load(name, split, streaming=streaming)
        assert reds(again) == [20, 30, 10, 40] and again.features["label"].names == ["cat", "dog", "owl"]
    theirs = library.load_dataset("parquet", data_files="held.parquet", split="train")  # without any class of ours
    assert type(theirs.features["image"]) is library.Image and reds(theirs) == [20, 30, 10, 40]


def test_what_is_saved_beside_its_images_is_read_with_them() -> None:
    fill("album/photos", PHOTOS)
    datasets.load("album/photos").save_to_disk("album")
    datasets.load("album/photos").to_parquet("album/train.parquet")
    assert reds(datasets.load("./album")) == reds(datasets.load("album/train.parquet")) == [20, 30, 10, 40]


def test_paths_beside_the_bytes_of_images_open_nothing_elsewhere() -> None:
    write("secret.png", encoded(99))
    kind = library.Features({"image": {"bytes": library.Value("binary"), "path": library.Value("string")}})
    held = {"image": [{"bytes": None, "path": os.path.abspath("secret.png")}, {"bytes": encoded(1), "path": "secret.png"}]}
    library.Dataset.from_dict(held, features=kind).to_parquet("album/photos.parquet")
    rows = datasets.load("album/photos.parquet")
    with pytest.raises(InputError, match=r"secret\.png' does not lie below"):
        rows[0]
    assert reds([rows[1]]) == [1]


ESCAPES = ["../secret.png", "cat/../../secret.png", "/etc/passwd", "", "."]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leaves_the_folder_of_its_table(path: str) -> None:
    write("secret.png", encoded(99))
    write("album/cat/1.png", encoded(1))
    Path("album/photos.jsonl").write_text('{"image": "cat/1.png"}\n' + json.dumps({"image": path}) + "\n")
    with pytest.raises(InputError, match="does not lie below") as caught:
        datasets.load("album/photos.jsonl")
    assert len(str(caught.value).splitlines()) <= 3
    library.Dataset.from_dict({"image": ["cat/1.png", path]}).to_parquet("album/photos.parquet")
    with pytest.raises(InputError, match="does not lie below"):
        list(datasets.load("album/photos.parquet", streaming=True))


def test_a_whole_path_that_stays_inside_is_fine() -> None:
    write("album/cat/1.png", encoded(1))
    Path("album/photos.csv").write_text(f"image\n{os.path.abspath('album/cat/1.png')}\n")
    assert reds(datasets.load("album/photos.csv")) == [1]


def tar_of(path: str, files: dict[str, bytes], mode: str = "w") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def shard(first: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number in range(first, first + 5):
        files |= {f"cats/{number:02}.jpg": encoded(number, "JPEG"), f"cats/{number:02}.cls": str(number % 3).encode()}
        files |= {f"cats/{number:02}.json": b'{"from": "zoo"}', f"cats/{number:02}.notes": b"ignored"}
    return files


@pytest.mark.parametrize("streaming", [False, True])
def test_tars_of_webdataset(streaming: bool) -> None:
    tar_of("shards/train-0.tar", shard(0))
    tar_of("shards/train-1.tar.gz", shard(5), "w:gz")
    tar_of("shards/val-0.tar", shard(20))
    rows = list(datasets.load("./shards", streaming=streaming))
    assert [row["__key__"] for row in rows] == [f"cats/{number:02}" for number in range(10)]
    assert [row["label"] for row in rows] == [number % 3 for number in range(10)] and rows[0]["json"] == '{"from": "zoo"}'
    assert all(abs(red - number) <= 3 for number, red in enumerate(reds(rows)))
    assert len(list(datasets.load("./shards", "validation", streaming=streaming))) == 5
    assert len(list(datasets.load("shards/*.tar", streaming=streaming))) == 10


def test_shards_are_shared_among_workers_and_a_changed_tar_is_read_anew() -> None:
    for number in range(4):
        tar_of(f"shards/{number}.tar", shard(5 * number))
    loader = DataLoader(datasets.load("shards/*.tar", streaming=True), batch_size=None, num_workers=2)
    assert sorted(row["__key__"] for row in loader) == [f"cats/{number:02}" for number in range(20)]
    assert datasets.load("shards/0.tar")[0]["__key__"] == "cats/00"
    tar_of("shards/0.tar", shard(90))
    assert datasets.load("shards/0.tar")[0]["__key__"] == "cats/90"


def test_names_and_links_in_a_tar_lead_nowhere() -> None:
    write("secret.png", encoded(99))
    write("inner/secret.png", encoded(99))
    before = sorted(Path().rglob("*"))
    with tarfile.open("evil.tar", "w") as archive:
        for name in ("../../outside.png", "/tmp/absolute.png", "secret.png"):
            info = tarfile.TarInfo(name)
            info.size = len(encoded(1))
            archive.addfile(info, io.BytesIO(encoded(1)))
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.LNKTYPE, "hard.png"), (tarfile.CHRTYPE, "device.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "secret.png"
            archive.addfile(info)
    for streaming in (False, True):
        assert reds(datasets.load("evil.tar", streaming=streaming)) == [1, 1, 1]
    left = [path for path in sorted(Path().rglob("*")) if "cache" not in path.parts]
    assert left == [Path("evil.tar"), *before] and not Path("/tmp/absolute.png").exists()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"1.jpg": encoded(1), "1.cls": b"1", "2.jpg": encoded(2)}, "'2' differs from the first one in 'label'"),
        ({"1.jpg": encoded(1), "1.cls": b"1", "2.cls": b"2"}, "'2' has no image"),
        ({"1.jpg": encoded(1), "1.cls": b"cat"}, "sample '1': invalid literal"),
        ({"1.jpg": encoded(1), "1.json": b"{"}, "sample '1': Expecting property name"),
        ({"1.py": b"print()"}, "holds no images"),
        ({"1.ppm": bytes(100_000_000)}, r"'1\.ppm' unpacks to 100000000 bytes, too many"),
    ],
)  # fmt: skip
def test_tars_that_cannot_be_used(files: dict[str, bytes], complaint: str, streaming: bool) -> None:
    tar_of("shards/0.tar.gz", files, "w:gz")
    with pytest.raises(InputError, match=complaint) as caught:
        list(datasets.load("shards/0.tar.gz", streaming=streaming))
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("kept", [0, 0.1, 0.45, 0.7])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_breaks_off_is_named(mode: str, kept: float) -> None:
    tar_of("whole.tar", {f"{number}.png": encoded(number) for number in range(8)}, mode)
    whole = Path("whole.tar").read_bytes()
    end = 8 * 1024 if mode == "w" else len(whole)  # what follows the last member of a plain tar is zeros
    write("half.tar", whole[: int(end * kept)])
    with pytest.raises(InputError, match=r"half\.tar"):
        datasets.load("half.tar")


def test_a_zip_is_read_within_bounds() -> None:
    with zipfile.ZipFile("photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../1.png", encoded(1))
        archive.writestr("folder/", b"")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert [(name, read()) for name, read in members("photos.zip")] == [("../1.png", encoded(1))]
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.ppm", bytes(20_000_000))
    assert os.path.getsize("bomb.zip") * PACKED < 20_000_000
    with pytest.raises(InputError, match="unpacks to 20000000 bytes"):
        list(members("bomb.zip"))
    damaged = bytearray(Path("photos.zip").read_bytes())
    damaged[45:60] = bytes(15)
    write("damaged.zip", bytes(damaged))
    with pytest.raises(InputError, match=r"damaged\.zip cannot be read"):
        [read() for _, read in members("damaged.zip")]


def bad_inputs() -> None:
    fill("mixed", {"cat/1.png": 1, "2.png": 2})
    fill("album", {"cat/1.png": 1})
    Path("empty").mkdir()
    write("texts/notes.md", b"")
    Path("album/rows.csv").write_text("file,label\ncat/1.png,cat\n")
    Path("album/numbers.csv").write_text("image,label\n1,cat\n")
    Path("album/gaps.jsonl").write_text('{"image": "cat/1.png", "label": "cat"}\n{"image": null, "label": "cat"}\n')
    Path("album/unlabelled.jsonl").write_text('{"image": "cat/1.png", "label": "cat"}\n{"image": "cat/1.png", "label": null}\n')


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"name": "openmojo"}, UnknownDataset, "nearest: openmoji"),
        ({"name": "cifar10"}, UnknownDataset, "nearest: cifar-10"),
        ({"name": "mnist", "split": "validation"}, InputError, "its splits: train, test"),
        ({"name": "mnist", "offline": True}, OfflineError, "images-idx3-ubyte.gz of mnist is not on this machine"),
        ({"name": "mnist", "size": 64}, InputError, "mnist is not drawn"),
        ({"name": "openmoji", "split": "test", "size": 0}, InputError, "a drawing of 0 pixels"),
        ({"name": "openmoji", "split": "test", "size": "64"}, InputError, "a drawing of '64' pixels"),
        ({"name": "./album", "size": 64}, InputError, "./album is not drawn"),
        ({"name": "openmoji", "split": "test", "size": 8, "label": "hue"}, InputError, "no column 'hue'\nits columns: image"),
        ({"name": "openmoji", "split": "test", "errors": "ignore"}, InputError, "errors='ignore' is not known"),
        ({"name": "./nowhere"}, InputError, "there is no file or folder ./nowhere"),
        ({"name": "nowhere.csv"}, InputError, "there is no file or folder nowhere.csv"),
        ({"name": "nowhere.tar"}, InputError, "there is no file nowhere.tar"),
        ({"name": "nowhere/*.tar"}, InputError, r"there is no file nowhere/\*.tar"),
        ({"name": "./empty"}, InputError, "./empty holds no images"),
        ({"name": "./texts"}, InputError, "./texts holds no images"),
        ({"name": "./mixed"}, InputError, "2.png lies beside the folders of classes"),
        ({"name": "album/rows.csv"}, InputError, "no column 'image'\nits columns: file, label; image= says"),
        ({"name": "album/rows.csv", "image": "photo"}, InputError, "no column 'photo'\nits columns: file, label"),
        ({"name": "album/rows.csv", "image": "file", "columns": ["size"]}, InputError, "no column 'size'"),
        ({"name": "album/numbers.csv"}, InputError, "'image' holds Value"),
        ({"name": "album/gaps.jsonl"}, InputError, "row 1 has no image"),
        ({"name": "album/unlabelled.jsonl"}, InputError, "a row has no label"),
        ({"name": "hf:photos"}, InputError, "does not name a data set"),
        ({"name": "hf:zoo/photos"}, IntegrityError, "nothing says which bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded(arguments, error, complaint) -> None:
    bad_inputs()
    with pytest.raises(error, match=complaint) as caught:
        datasets.load(**arguments)
    assert len(str(caught.value).splitlines()) <= 3
    assert not Path("bestiary.lock").exists()


def test_a_saved_data_set_that_is_damaged_is_named() -> None:
    fill("photos", PHOTOS)
    datasets.load("./photos").save_to_disk("saved")
    next(Path("saved").glob("*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(InputError, match=r"\./saved cannot be read as a saved data set"):
        datasets.load("./saved")


def test_nothing_is_skipped_without_a_word() -> None:
    fill("photos", PHOTOS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(datasets.load("./photos", errors="skip")) == 4


def test_rows_are_no_larger_than_their_names() -> None:
    """Images stay in their files: a table of a thousand of them is written in a moment."""
    fill("photos", {f"cat/{number}.png": number % 256 for number in range(1000)})
    rows = datasets.load("./photos")
    assert rows.data.nbytes < 200 * len(rows)
    path = rows.cast_column("image", library.Image(decode=False))[7]["image"]["path"]
    assert np.array_equal(rows[7]["image"], read_image(path))


# huggingface_hub reads its settings when it is imported, so the loading runs in a process of its own.
LOAD = """
import sys
from bestiary.vision import datasets
for folder, split in (("held", "test"), ("tars", "train")):
    for streaming in (False, True):
        rows = list(datasets.load(f"hf:zoo/photos/{folder}", split, streaming=streaming, trust="first-use", lock=sys.argv[1]))
        print(folder, [(row["image"].getpixel((0, 0))[0], row["label"]) for row in rows])
"""


def test_a_repository_of_images() -> None:
    fill("photos", PHOTOS)
    embedded(datasets.load("./photos")).to_parquet("held.parquet")
    tar_of("0.tar", {"1.png": encoded(1), "1.cls": b"7"})
    held, tar = Path("held.parquet").read_bytes(), Path("0.tar").read_bytes()
    files = {"held/test-0.parquet": held, "tars/0.tar": tar, "photos.py": b"1/0"}
    with running_hub(files) as hub:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": os.path.abspath("hf"), "BESTIARY_HOME": os.path.abspath("store")}
        command = [sys.executable, "-c", LOAD, os.path.abspath("bestiary.lock")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["held [(20, 0), (30, 0), (10, 1), (40, 2)]"] * 2 + ["tars [(1, 7)]"] * 2
    assert not any("photos.py" in request for request in hub.requests)
