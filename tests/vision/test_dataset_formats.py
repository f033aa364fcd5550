"""Well-known sets of images: small files in the form in which they were published, read through cards; OpenMoji; digits."""

import gzip
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import datasets as library
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision.datasets.mnist import read_image_file, read_label_file

import bestiary.text.datasets as texts
from bestiary.errors import InputError, IntegrityError
from bestiary.hub.dataset import IMAGES, TABLES
from bestiary.hub.registry import Datasets
from bestiary.hub.settings import Settings
from bestiary.vision import datasets
from bestiary.vision.datasets.drawings import render
from bestiary.vision.datasets.formats import COARSE, FORMATS, bare
from bestiary.vision.images import read_image

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def add(cards: Path, form: str, labels: list[str], files: dict[str, bytes], *members: str) -> None:
    """A card called `small`, with one split."""
    for name, content in files.items():
        (cards / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    part = {
        "name": "small",
        "format": form,
        "labels": labels,
        "splits": {"train": {"files": list(files), "members": list(members), "rows": 1}},
        "files": {name: {"size": len(files[name]), "sha256": digests[name], "role": "table"} for name in files},
        "sources": [{"path": "."}],
    }
    (cards / "small.md").write_text(f"---\n{json.dumps({'license': 'mit', 'bestiary': part})}\n---\n")


def tgz_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def idx_of(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def jpeg(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 6), (colour, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def arrays(rows) -> np.ndarray:
    return np.stack([np.asarray(row["image"]) for row in rows])


DIGITS = RANDOM.integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = RANDOM.integers(0, 3, 7, dtype=np.uint8)
IDX = {"images.gz": gzip.compress(idx_of(DIGITS)), "labels.gz": gzip.compress(idx_of(LABELS))}


@pytest.mark.parametrize("streaming", [False, True])
def test_mnist(dataset_cards: Path, tmp_path: Path, streaming: bool) -> None:
    add(dataset_cards, "idx", ["a", "b", "c"], IDX)
    rows = list(datasets.load("small", streaming=streaming))
    (tmp_path / "images").write_bytes(idx_of(DIGITS))
    (tmp_path / "labels").write_bytes(idx_of(LABELS))
    theirs = read_image_file(str(tmp_path / "images")).numpy()
    assert np.array_equal(arrays(rows), np.repeat(theirs[..., None], 3, axis=3)) and np.array_equal(theirs, DIGITS)
    assert [row["label"] for row in rows] == read_label_file(str(tmp_path / "labels")).tolist()


def test_emnist_is_turned_upright(dataset_cards: Path) -> None:
    members = {f"gzip/{name}": content for name, content in IDX.items()}
    archive = zip_of(members | {"gzip/other.gz": b"another of its sets"})
    add(dataset_cards, "idx-columns", ["a", "b", "c"], {"gzip.zip": archive}, *members)
    rows = datasets.load("small")
    assert np.array_equal(arrays(rows)[..., 0], DIGITS.transpose(0, 2, 1)) and rows["label"][:] == LABELS.tolist()


PHOTOS = RANDOM.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def cifar(labels: list[list[int]]) -> bytes:
    planes = PHOTOS.transpose(0, 3, 1, 2)  # red, green, blue, one after the other
    return b"".join(bytes(label) + photo.tobytes() for label, photo in zip(labels, planes, strict=True))


def test_cifar_10(dataset_cards: Path) -> None:
    batches = {"cifar/2.bin": cifar([[2]] * 4), "cifar/1.bin": cifar([[0], [1], [2], [1]]), "cifar/readme.html": b"<html>"}
    add(dataset_cards, "cifar-10", ["a", "b", "c"], {"cifar.tar.gz": tgz_of(batches)}, "cifar/1.bin", "cifar/2.bin")
    rows = datasets.load("small")
    assert np.array_equal(arrays(rows), np.concatenate([PHOTOS, PHOTOS])) and rows["label"][:] == [0, 1, 2, 1, 2, 2, 2, 2]


def test_cifar_100_has_groups(dataset_cards: Path) -> None:
    batch = {"cifar/train.bin": cifar([[19, 0], [0, 1], [3, 1], [3, 0]])}
    add(dataset_cards, "cifar-100", ["a", "b"], {"cifar.tar.gz": tgz_of(batch)}, "cifar/train.bin")
    rows = datasets.load("small")
    assert (rows["label"][:], rows["coarse_label"][:]) == ([0, 1, 1, 0], [19, 0, 3, 3])
    groups = datasets.load("small", label="coarse_label")
    assert groups.features["label"].names == list(COARSE) and groups["label"][:] == [19, 0, 3, 3]
    assert np.array_equal(arrays(groups), PHOTOS) and len(COARSE) == 20


def mat(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def test_flowers(dataset_cards: Path) -> None:
    photos = {f"jpg/image_{number:05d}.jpg": jpeg(40 * number) for number in range(1, 6)}
    files = {
        "setid.mat": mat(trnid=np.array([[5, 2]]), valid=np.array([[1]]), tstid=np.array([[3, 4]])),
        "labels.mat": mat(labels=np.array([[1, 3, 1, 2, 2]])),
        "photos.tgz": tgz_of(photos),
    }
    add(dataset_cards, "flowers", ["a", "b", "c"], files, "trnid")
    rows = datasets.load("small")
    assert rows["label"][:] == [2, 1]
    expected = [np.asarray(read_image(photos[f"jpg/image_{number:05d}.jpg"])) for number in (2, 5)]
    assert np.array_equal(arrays(rows), expected)


def test_pets(dataset_cards: Path) -> None:
    listing = b"#Image CLASS-ID SPECIES BREED ID\nbeagle_2 2 2 1\nAbyssinian_1 1 1 1\n"
    photos = {"._beagle_2": b"", "Abyssinian_1": jpeg(50), "Bombay_7": b"", "beagle_2": jpeg(90)}
    images = tgz_of({f"images/{name}.jpg": content for name, content in photos.items()})
    files = {"annotations.tar.gz": tgz_of({"annotations/list.txt": listing}), "images.tar.gz": images}
    add(dataset_cards, "pets", ["Abyssinian", "Beagle"], files, "annotations/list.txt")
    rows = datasets.load("small")
    assert (rows["label"][:], rows["species"][:], rows.features["species"].names) == ([0, 1], [0, 1], ["cat", "dog"])
    assert np.array_equal(arrays(rows), [np.asarray(read_image(jpeg(colour))) for colour in (50, 90)])


@pytest.mark.parametrize("streaming", [False, True])
def test_coco(dataset_cards: Path, streaming: bool) -> None:
    box = {"image_id": 9, "iscrowd": 0, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 0.5]}
    told = {
        "images": [{"id": 9, "file_name": "0009.jpg"}, {"id": 4, "file_name": "0004.jpg"}],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        "annotations": [box, {**box, "iscrowd": 1, "category_id": 1, "bbox": [0, 0, 9, 6]}],
    }
    photos = {"val/": b"", "val/0004.jpg": jpeg(4), "val/0007.jpg": jpeg(7), "val/0009.jpg": jpeg(9)}
    files = {"annotations.zip": zip_of({"a/instances.json": json.dumps(told).encode()}), "val.zip": zip_of(photos)}
    add(dataset_cards, "coco", ["person", "toothbrush"], files, "a/instances.json")
    none, two = datasets.load("small", streaming=streaming)
    assert (none["id"], none["boxes"], none["labels"]) == (4, [], []) and none["image"].size == (9, 6)
    assert two["boxes"] == [[1, 2, 4, 2.5], [0, 0, 9, 6]] and two["labels"] == [1, 0] and two["crowd"] == [False, True]


def test_a_card_of_tables_and_one_of_tars(dataset_cards: Path) -> None:
    held = library.Dataset.from_dict({"photo": [jpeg(1), jpeg(2)], "kind": [1, 0]})
    file = io.BytesIO()
    held.to_parquet(file)
    add(dataset_cards, "parquet", ["tame", "wild"], {"small.parquet": file.getvalue()})
    card = dataset_cards / "small.md"
    card.write_text(card.read_text().replace('"format"', '"columns": {"image": "photo", "label": "kind"}, "format"'))
    for streaming in (False, True):
        rows = datasets.load("small", streaming=streaming)
        assert [row["label"] for row in rows] == [1, 0] and rows.features["label"].names == ["tame", "wild"]
        assert np.array_equal(arrays(rows), [np.asarray(read_image(jpeg(colour))) for colour in (1, 2)])
    add(dataset_cards, "webdataset", ["tame", "wild"], {"small.tar": gzip.decompress(tgz_of({"1.jpg": jpeg(3), "1.cls": b"1"}))})
    assert (datasets.load("small")["label"][:], datasets.load("small").features["label"].names) == ([1], ["tame", "wild"])


@pytest.mark.parametrize(
    ("form", "files", "members", "complaint"),
    [
        ("idx", {**IDX, "images.gz": gzip.compress(idx_of(DIGITS)[:-1])}, (), "is not an idx file of bytes"),
        ("idx", {**IDX, "images.gz": gzip.compress(b"")}, (), "is not an idx file of bytes"),
        ("idx", {**IDX, "images.gz": b"no gzip"}, (), "cannot be read"),
        ("idx", {**IDX, "labels.gz": gzip.compress(idx_of(LABELS[:3]))}, (), r"holds \(7, 28, 28\), .* \(3,\)"),
        ("cifar-10", {"a.tgz": tgz_of({"1.bin": bytes(3072)})}, ("1.bin",), "1.bin is not a file of CIFAR images"),
        ("cifar-10", {"a.tgz": tgz_of({"2.bin": bytes(3073)})}, ("1.bin",), "lacks '1.bin', and 0 more"),
    ],
)  # fmt: skip
def test_files_of_another_form_are_refused(dataset_cards: Path, form, files, members, complaint) -> None:
    add(dataset_cards, form, ["a", "b", "c"], files, *members)
    with pytest.raises(InputError, match=complaint) as caught:
        datasets.load("small")
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(InputError, match=complaint):
        list(datasets.load("small", streaming=True))


def test_bytes_that_are_not_the_card_s_are_refused(dataset_cards: Path) -> None:
    add(dataset_cards, "idx", ["a", "b", "c"], IDX)
    (dataset_cards / "images.gz").write_bytes(IDX["images.gz"][::-1])
    with pytest.raises(IntegrityError, match="small"):
        datasets.load("small")


def test_rows_follow_the_digest_and_are_made_once(dataset_cards: Path) -> None:
    add(dataset_cards, "idx", ["a", "b", "c"], IDX)
    first = datasets.load("small")
    assert datasets.load("small").cache_files == first.cache_files and len(first) == 7
    fewer = {name: gzip.compress(idx_of(array[:2])) for name, array in zip(IDX, (DIGITS, LABELS), strict=True)}
    add(dataset_cards, "idx", ["a", "b", "c"], fewer)
    assert len(datasets.load("small")) == 2


def test_each_domain_sends_to_the_other(dataset_cards: Path) -> None:
    with pytest.raises(InputError, match=r"mnist holds images\nload it with bestiary\.vision\.datasets"):
        texts.load("mnist")
    add(dataset_cards, "jsonl", ["a"], {"small.jsonl": b'{"text": "a griffin", "label": 0}\n'})
    with pytest.raises(InputError, match="small has no column 'image'\nits columns: text, label"):
        datasets.load("small")


def test_the_shipped_cards_name_every_class() -> None:
    cards = {card.name: card for card in Datasets.standard(Settings.read({})).cards() if card.format in IMAGES}
    assert {card.format for card in cards.values()} == set(FORMATS)
    counts = {name: len(set(card.labels or ())) for name, card in cards.items()}
    assert counts == {
        "cifar-10": 10, "cifar-100": 100, "coco-2017": 80, "digits": 10, "emnist-balanced": 47, "emnist-letters": 27,
        "fashion-mnist": 10, "flowers-102": 102, "kmnist": 10, "mnist": 10, "oxford-pets": 37,
    }  # fmt: skip
    assert all(card.pinned and card.sources for card in cards.values())
    assert not set(IMAGES) & set(TABLES)


@pytest.fixture
def openmoji(monkeypatch: pytest.MonkeyPatch) -> library.Dataset:
    return datasets.load("openmoji", "test", size=24)


def test_openmoji_is_the_same_data_set_in_text_and_vision(openmoji: library.Dataset) -> None:
    told = texts.load("openmoji", "test")
    common = [name for name in told.column_names if name != "subgroup"]  # a text there, a class here
    assert openmoji.select_columns(common).to_dict() == told.select_columns(common).to_dict()
    assert openmoji.features["subgroup"].int2str(openmoji["subgroup"][:]) == told["subgroup"][:]
    assert openmoji.features["label"].names == told.features["label"].names and len(openmoji) == 183


def test_variants_of_an_emoji_stay_on_one_side() -> None:
    concepts = [set(texts.load("openmoji", split)["concept"]) for split in ("train", "validation", "test")]
    assert not concepts[0] & concepts[1] and not concepts[0] & concepts[2] and not concepts[1] & concepts[2]


def test_drawings(openmoji: library.Dataset) -> None:
    pixels = arrays(openmoji)
    assert pixels.shape == (183, 24, 24, 3) and pixels.dtype == np.uint8
    assert (pixels[:, 0, 0] == 255).all(axis=1).mean() > 0.95  # on white
    assert len(np.unique(pixels.reshape(183, -1), axis=0)) == 182  # a man and a person with the same curls
    by_text = dict(zip(openmoji["text"], pixels, strict=True))
    assert by_text["large red square"][12, 12].tolist() == [210, 47, 39]  # OpenMoji's red, #d22f27
    assert datasets.load("openmoji", "test", size=24).cache_files == openmoji.cache_files  # drawn once
    assert next(iter(datasets.load("openmoji", "test", size=100, streaming=True)))["image"].size == (100, 100)
    subgroups = datasets.load("openmoji", "test", size=24, label="subgroup")
    assert subgroups["label"][:] == openmoji["subgroup"][:] and "food-fruit" in subgroups.features["label"].names


def test_drawing_needs_resvg_and_an_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"apple\.svg is not an SVG that can be drawn"):
        render("<html></html>", 8, "apple.svg")
    monkeypatch.setitem(sys.modules, "resvg_py", None)  # as an import finds it where it is not installed
    with pytest.raises(InputError, match=r"resvg-py, which is not installed\npip install 'bestiary\[images\]'"):
        datasets.load("openmoji", "test", size=8)


def test_flowers_need_scipy(dataset_cards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(dataset_cards, "flowers", ["a"], {"setid.mat": b"1", "labels.mat": b"2", "photos.tgz": b"3"}, "trnid")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match="scipy, which is not installed"):
        datasets.load("small")


def test_digits_are_those_of_scikit_learn_and_can_be_learned() -> None:
    train, test = datasets.load("digits"), datasets.load("digits", "test")
    theirs = load_digits()
    pixels = arrays([*train, *test])[..., 0]
    assert np.array_equal(pixels, (theirs.images * 255 / 16).round()) and [len(train), len(test)] == [1437, 360]
    assert [*train["label"], *test["label"]] == theirs.target.tolist()

    torch.manual_seed(0)
    x, y = torch.from_numpy(pixels / 255).float().flatten(1), torch.tensor(theirs.target)
    net = torch.nn.Linear(64, 10)
    optimiser = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(60):
        torch.nn.functional.cross_entropy(net(x[:1437]), y[:1437]).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert (net(x[1437:]).argmax(1) == y[1437:]).float().mean() > 0.85


def test_bare_pixels_come_back_as_they_were() -> None:
    for shape in ((5, 3), (5, 3, 3)):
        array = RANDOM.integers(0, 256, shape, dtype=np.uint8)
        array.flat[0] = 10  # which a reader might take for the end of a line, or white space
        read = np.asarray(read_image(bare(array)["bytes"]))
        assert np.array_equal(read, array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2))
