"""Folders of scenes as Roboflow, CVAT and COCO leave them, and what is said of one that cannot be learned from."""

import json
from pathlib import Path

import datasets as library
import numpy as np
import pytest

from bestiary.core.tables import UnknownSplit
from bestiary.errors import InputError
from bestiary.vision import datasets
from tests.vision.drawn_scenes import COLOURS, scene, write

ROWS = {f"{seed}.png": scene(seed, 60, 80, seed) for seed in range(3)}  # with none, one and two objects
OTHERS = {"9.png": scene(9, 50, 40, 3)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return Path("scenes")


def check(split, rows):
    found = datasets.load("./scenes", split)
    assert found.column_names == ["image", "id", "boxes", "labels", "crowd"]
    assert found.features["labels"].feature.names == list(COLOURS)
    for row, expected in zip(found, rows.values(), strict=True):
        assert np.array_equal(np.asarray(row["image"]), expected["image"])
        assert row["boxes"] == expected["boxes"] and row["labels"] == expected["label"]
        assert row["crowd"] == [False] * len(row["boxes"])


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("{}/_annotations.coco.json", "{}"),  # Roboflow
        ("{}/annotations.json", "{}/images"),
        ("{}/annotations.json", "images/{}"),
        ("annotations/instances_{}2017.json", "{}2017"),  # COCO
        ("annotations/instances_{}2017.json", "images/{}2017"),
        ("annotations/instances_{}.json", "images"),
        ("instances_{}.json", "images"),
    ],
)
def test_layouts(folder, annotations, images):
    if (annotations, images) == ("{}/annotations.json", "images/{}"):
        changed = [{f"{split}/{name}": row for name, row in rows.items()} for split, rows in (("train", ROWS), ("val", OTHERS))]
        for split, rows in zip(("train", "val"), changed, strict=True):
            write(folder / annotations.format(split), rows, folder / "images")
    else:
        for split, rows in (("train", ROWS), ("val", OTHERS)):
            write(folder / annotations.format(split), rows, folder / images.format(split))
    check("train", ROWS)
    check("validation", OTHERS)
    with pytest.raises(UnknownSplit, match=r"no split 'test'"):
        datasets.load("./scenes", "test")


@pytest.mark.parametrize(
    ("annotations", "images"),
    [("annotations.json", "."), ("annotations.json", "images"), ("annotations/instances_default.json", "images/default")],
)
def test_a_single_file_is_all_train(folder, annotations, images):
    write(folder / annotations, ROWS, folder / images)
    check("train", ROWS)
    assert len(list(datasets.load("./scenes", streaming=True))) == 3


def test_a_category_above_the_others_is_no_class(folder):
    """Roboflow lists one that is called as the data set; it is one where something is of it."""
    kinds = [{"id": 0, "name": "shapes", "supercategory": "none"}]
    kinds += [{"id": 5 + number, "name": name, "supercategory": "shapes"} for number, name in enumerate(COLOURS)]
    told = write(folder / "train" / "_annotations.coco.json", ROWS, folder / "train", categories=kinds)
    check("train", ROWS)
    one = {**told["annotations"][0], "category_id": 0}
    write(folder / "train" / "_annotations.coco.json", ROWS, folder / "train", categories=kinds, annotations=[one])
    assert datasets.load("./scenes").features["labels"].feature.names == ["shapes", *COLOURS]


def test_boxes_are_cut_at_the_edges_and_crowds_are_kept(folder):
    place = folder / "annotations.json"
    told = write(place, {"2.png": ROWS["2.png"]}, folder)
    told["annotations"][0] |= {"bbox": [-0.4, 10, 80.9, 50.3], "iscrowd": 1}
    del told["annotations"][1]["iscrowd"]
    place.write_text(json.dumps(told))
    (row,) = datasets.load("./scenes")
    assert row["boxes"][0] == [0, 10, 80, 60] and row["crowd"] == [True, False]


def spoil(told, path, value):
    *way, last = path
    for step in way:
        told = told[step]
    if value is None:
        del told[last]
    else:
        told[last] = value


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("annotations", 0, "bbox"), [5, 5, 0, 9], r"annotations\.json: 1\.png has a box without area, .* 5, 5, 5, 14"),
        (("annotations", 0, "bbox"), [5, 5, float("nan"), 9], r"1\.png has a box without area"),
        (("annotations", 0, "bbox"), [5, 5, 90, 9], r"1\.png of 80 × 60 pixels has a box that reaches out of it, .* 95, 14"),
        (("annotations", 0, "bbox"), [5, 5, 9], "is not in the form of COCO"),
        (("annotations", 0, "bbox"), ["a", 5, 5, 9], "is not in the form of COCO: could not convert"),
        (("annotations", 0, "bbox"), None, "is not in the form of COCO: it has no 'bbox'"),
        (("annotations", 0, "category_id"), 77, r"1\.png shows something of category 77"),
        (("annotations", 0, "image_id"), 77, "something is in image 77, which it does not list"),
        (("images", 1, "file_name"), "lost.png", r"its image 'lost\.png' is not in "),
        (("images", 0, "file_name"), "lost.png", r"its image 'lost\.png' is not there"),
        (("images", 1, "file_name"), "../secret.png", r"its image '\.\./secret\.png' is not in "),
        (("images", 1, "width"), None, r"1\.png has the width None and the height 60"),
        (("images",), [], "lists no images|is in image 2"),
        (("categories",), None, "it has no 'categories'"),
        (("categories", 1, "name"), "red", "lists the category 'red' twice"),
    ],
)
def test_files_that_make_no_sense_are_refused_by_name(folder, path, value, complaint):
    place = folder / "annotations.json"
    told = write(place, ROWS, folder)
    spoil(told, path, value)
    place.write_text(json.dumps(told))
    with pytest.raises(InputError, match=complaint) as caught:
        datasets.load("./scenes")
    assert "annotations.json" in str(caught.value) and len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(("content", "complaint"), [("{", "as JSON"), ("[1]", "form of COCO"), ('{"images": 3}', "form of COCO")])
def test_files_of_another_form_are_refused(folder, content, complaint):
    write(folder / "annotations.json", ROWS, folder)
    (folder / "annotations.json").write_text(content)
    with pytest.raises(InputError, match=complaint):
        datasets.load("./scenes")


def test_splits_that_list_other_categories(folder):
    kinds = [{"id": 5 + number, "name": name} for number, name in enumerate([*COLOURS, "violet"])]
    write(folder / "train" / "annotations.json", ROWS, folder / "train")
    write(folder / "valid" / "annotations.json", OTHERS, folder / "valid", categories=kinds)
    with pytest.raises(InputError, match=r"train/annotations\.json and .*valid/annotations\.json only one lists .*'violet'"):
        datasets.load("./scenes")


def test_two_files_for_one_split(folder):
    write(folder / "annotations" / "instances_train.json", ROWS, folder)
    write(folder / "train" / "annotations.json", ROWS, folder)
    with pytest.raises(InputError, match="several files of annotations for train"):
        datasets.load("./scenes")
