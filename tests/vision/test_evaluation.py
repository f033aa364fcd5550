"""Evaluations of models of images: real nets on real photos, and averages that are known beforehand."""

import json
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pictures

import bestiary
from bestiary.core.evaluation import silent
from bestiary.errors import InputError
from bestiary.evaluation import evaluate
from bestiary.vision import datasets
from bestiary.vision.evaluation import _coco, _found, _nearest, _objects, _votes
from bestiary.vision.tasks.detection import Box, Detection, Detections
from tests.vision.test_detection import NAMES, detect, folder, photos  # noqa: F401  (fixtures)

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"


@pytest.fixture(scope="module")
def classify():
    return bestiary.load("efficientnet-lite0", device="cpu", precision="fp32")


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A table of three cats and what is said of them; the model answers tiger cat to the first, Egyptian cat to the others."""
    monkeypatch.chdir(tmp_path)
    cat = Pictures.open(PHOTO)
    for name, image in (("cat", cat), ("cut", cat.crop((60, 0, 420, 300))), ("small", cat.resize((200, 133)))):
        image.save(f"{name}.png")
    said = {"cat": "tiger cat", "cut": "tabby", "small": "goldfish"}
    Path("test.jsonl").write_text("".join(json.dumps({"image": f"{name}.png", "label": said[name]}) + "\n" for name in said))
    return tmp_path


def test_a_classifier_is_right_as_often_as_its_answers_say(classify, album):
    rows = datasets.load("./", "test")
    answers = [[label.name for label in classify(f"{name}.png")] for name in ("cat", "cut", "small")]
    assert answers[0][0] == "tiger cat" and "tabby" in answers[1] and "goldfish" not in answers[2]
    found = evaluate(classify, rows)
    right = [answers[0][0] == "tiger cat", answers[1][0] == "tabby", False]
    assert found.metrics["accuracy"] == pytest.approx(sum(right) / 3)
    assert found.metrics["top5_accuracy"] == pytest.approx(2 / 3)
    assert list(found.metrics) == ["accuracy", "top5_accuracy", "macro_f1"]
    assert found.rows == 3 and found.classes["tiger cat"]["recall"] == 1
    assert ("goldfish", answers[2][0], 1) in found.confused
    assert evaluate(classify, rows, batch_size=2) == found
    assert evaluate(classify, datasets.load("./", "test", streaming=True)) == found


def test_an_image_that_cannot_be_read_is_named_or_left_out(classify, album):
    Path("cut.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cut\.png"):
        evaluate(classify, datasets.load("./", "test"))
    with pytest.warns(UserWarning, match="skipped 1 of 3"):
        rows = datasets.load("./", "test", errors="skip")
    assert evaluate(classify, rows).rows == 2


def test_classes_of_others_are_an_error(classify):
    with pytest.raises(InputError, match="does not know 9 of the data's 9 classes") as caught:
        evaluate(classify, datasets.load("openmoji", "test", size=16))
    assert len(str(caught.value).splitlines()) == 3


def test_neighbours_leave_an_image_itself_out():
    vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 0.9]])
    assert _nearest(vectors, 2).tolist() == [[1, 3], [0, 3], [3, 1], [2, 1]]


def test_neighbours_vote_and_the_nearer_ones_decide_a_tie():
    labels = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 2], [2, 1, 1, 1]])
    assert _votes(labels, 3).argmax(-1).tolist() == [0, 0, 1]
    assert _votes(torch.tensor([[0, 0, 1, 1, 1]]), 2).argmax(-1).tolist() == [1]


def test_an_embedder_finds_the_class_of_its_neighbours(classify):
    cat = Pictures.open(PHOTO)
    crops = [cat.crop((x, y, x + 250, y + 250)) for x, y in ((0, 0), (60, 20), (120, 40))]
    greys = [Pictures.new("RGB", (64, 64), (grey,) * 3) for grey in (90, 120, 150)]
    kind = Features({"image": Image(), "label": ClassLabel(names=["cat", "grey"])})
    rows = Dataset.from_dict({"image": crops + greys, "label": [0, 0, 0, 1, 1, 1]}, features=kind)
    found = evaluate(classify.embedder(), rows)
    # Of the five others of an image, three are of the other class.
    assert found.metrics == {"knn_1_accuracy": 1.0, "knn_5_accuracy": 0.0}
    assert evaluate(classify.embedder(), rows.select([0, 1, 2, 3])).metrics == {"knn_1_accuracy": 0.75}
    with pytest.raises(InputError, match="have no neighbours"):
        evaluate(classify.embedder(), rows.select([0]))


def test_average_precision_by_hand():
    """The surest of two boxes is wrong, the other right: precision is a half at every recall, at every overlap asked for."""
    metric, number = _coco(), {"cat": 0, "dog": 1}
    right, wrong = Box(10, 10, 60, 60), Box(200, 200, 260, 260)
    found = Detections([Detection("cat", 0.9, wrong), Detection("cat", 0.8, right)], None)
    metric.update([_found(found, number)], [_objects([list(right)], [0])])
    result = metric.compute()
    assert float(result["map"]) == pytest.approx(0.5) and float(result["map_50"]) == pytest.approx(0.5)
    assert float(result["mar_100"]) == pytest.approx(1)


def test_average_precision_at_an_overlap():
    """Two thirds of overlap are enough for the thresholds 0.5 to 0.65, four of ten."""
    metric = _coco()
    found = Detections([Detection("cat", 0.9, Box(0, 0, 100, 100))], None)
    metric.update([_found(found, {"cat": 0})], [_objects([[0.0, 0.0, 100.0, 66.0]], [0])])
    result = metric.compute()
    assert (float(result["map"]), float(result["map_75"])) == (pytest.approx(0.4), pytest.approx(0))


@pytest.fixture(scope="module")
def objects(detect, photos):  # noqa: F811
    """Photos with what the detector finds in them, as if that were right."""
    answers = detect(photos, threshold=0.0, top=100)
    names = ClassLabel(names=NAMES[::-1])  # in another order than the model's
    boxes, crowd = List(List(Value("float32"))), List(Value("bool"))
    kind = Features({"image": Image(), "boxes": boxes, "labels": List(names), "crowd": crowd})
    columns = {
        "image": photos,
        "boxes": [[list(one.box) for one in found] for found in answers],
        "labels": [[names.str2int(one.label) for one in found] for found in answers],
        "crowd": [[False] * len(found) for found in answers],
    }
    return Dataset.from_dict(columns, features=kind)


def test_a_detector_whose_answers_are_right(detect, objects):  # noqa: F811
    found = evaluate(detect, objects, progress=silent)
    assert found.metrics["map"] == pytest.approx(1) and found.metrics["recall_at_100"] == pytest.approx(1)
    assert next(iter(found.metrics)) == "map" and min(found.metrics.values()) >= 0
    assert found.rows == 5 and found.counts == {"objects": sum(map(len, objects["labels"]))}
    assert all(one == pytest.approx({"map": 1}) for one in found.classes.values())


def test_a_detector_that_finds_nothing_of_what_is_there(detect, objects):  # noqa: F811
    elsewhere = objects.map(lambda row: {"boxes": [[5000.0, 5000.0, 5010.0, 5010.0] for _ in row["boxes"]]})
    assert evaluate(detect, elsewhere).metrics["map"] == pytest.approx(0, abs=1e-6)


def test_things_that_a_detector_does_not_know(detect, objects):  # noqa: F811
    kind = {**objects.features, "labels": List(ClassLabel(names=["griffin", *NAMES]))}
    with pytest.raises(InputError, match="griffin"):
        evaluate(detect, objects.cast(Features(kind)).map(lambda row: {"labels": [0 for _ in row["labels"]]}))
    with pytest.raises(InputError, match="no column 'boxes'"):
        evaluate(detect, objects.remove_columns("boxes"))
