"""Boxes in photos are those of transformers, whatever else is in the batch. The net has random weights: it finds nonsense."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torchvision.models._meta import _COCO_CATEGORIES

import bestiary
from bestiary.errors import InputError, LayoutError
from bestiary.vision import labels
from bestiary.vision.tasks.detection import Box, Detection, Detections, ObjectDetector
from tests.tables import table_of
from tests.vision.test_detr import TINY, reference_of

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
NAMES = ["N/A", "person", "bicycle", "car", "dog"]
SIZE = {"shortest_edge": 200, "longest_edge": 333}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What transformers publishes of a net with random weights."""
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    reference = reference_of(TINY["plain"])
    reference.config.id2label = dict(enumerate(NAMES))
    reference.save_pretrained(folder)
    transformers.DetrImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detect(folder):
    return bestiary.load(folder, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def reference(folder):
    return transformers.DetrForObjectDetection.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def photos():
    """The photo, upright, as a strip whose longer side meets the limit, as large as it will be, a part of it."""
    photo = Image.open(PHOTO)
    return [
        photo, photo.rotate(90, expand=True), photo.resize((600, 150)), photo.resize((200, 200)), photo.crop((100, 0, 400, 300))
    ]  # fmt: skip


def close(ours, theirs, pixels=0.01):
    """Of the same objects; the order of two whose scores differ by rounding alone is left to chance."""
    ours, theirs = (sorted(found, key=lambda one: (one.label, one.box)) for found in (ours, theirs))
    return [one.label for one in ours] == [one.label for one in theirs] and all(
        abs(a.score - b.score) <= 1e-4 and np.allclose(a.box, b.box, atol=pixels) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@torch.no_grad()
def test_boxes_are_those_of_transformers(threshold, detect, reference, photos):
    """In pixels of the photo as it was given."""
    processor = transformers.DetrImageProcessor(size=SIZE)
    for photo in photos:
        ((_, pixels, sizes),) = detect.by_size([photo], 0)
        assert sizes == [(photo.height, photo.width)]
        (theirs,) = processor.post_process_object_detection(reference(pixels), threshold, sizes)
        expected = [
            Detection(NAMES[label], float(score), Box(*box.tolist()))
            for label, score, box in zip(theirs["labels"], theirs["scores"], theirs["boxes"], strict=True)
        ]
        found = detect(photo, threshold=threshold)
        assert len(found) == len(expected) > 0 and close(found, expected)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@pytest.mark.parametrize("size", [SIZE, {"shortest_edge": 800, "longest_edge": 1333}], ids=str)
def test_the_net_sees_what_it_sees_in_transformers(size, detect, photos):
    sizes = {"size": size["shortest_edge"], "longest": size["longest_edge"]}
    card = replace(detect.card, preprocess={**detect.card.preprocess, **sizes})
    ours = ObjectDetector(detect.net, card, detect.provenance, None)
    processor = transformers.DetrImageProcessor(size=size)
    step = 1 / (255 * min(detect.preprocess.std))
    for photo in photos:
        ((_, pixels, _),) = ours.by_size([photo], 0)
        theirs = processor(photo, return_tensors="pt")
        assert pixels.shape == theirs.pixel_values.shape and theirs.pixel_mask.all()
        assert float((pixels - theirs.pixel_values).abs().max()) <= 1.001 * step


def test_an_image_alone_gives_what_it_gives_among_others(detect, photos):
    """Of other sizes, and of its own."""
    alone = [detect(photo, threshold=0) for photo in photos]
    together = detect([*photos, photos[0]], threshold=0)
    assert all(close(a, b) for a, b in zip(together, [*alone, alone[0]], strict=True))
    assert not close(alone[0], alone[1]) and len(alone[0]) == 7
    assert all(close(a, b) for a, b in zip(detect(iter(photos), threshold=0, batch_size=2), alone, strict=True))
    assert detect([]) == []


def test_boxes_grow_with_the_image(detect):
    """An image twice as large, of which the net sees the same."""
    small = Image.new("RGB", (100, 80), (200, 30, 60))
    (*found,), (*larger,) = detect(small, threshold=0), detect(small.resize((200, 160)), threshold=0)
    grown = [one._replace(box=Box(*(2 * side for side in one.box))) for one in found]
    assert close(larger, grown)


def test_what_is_asked_for(detect):
    every = detect(PHOTO, threshold=0)
    assert all(isinstance(one, Detection) and isinstance(one.box, Box) and type(one.score) is float for one in every)
    middle = (every[2].score + every[3].score) / 2
    assert every[2].score > every[3].score  # or the threshold would tell nothing apart
    assert detect(PHOTO, threshold=middle) == every[:3]
    assert detect(PHOTO, threshold=0, top=2) == every[:2] and detect(PHOTO, threshold=1) == []
    for wrong in ({"threshold": 1.5}, {"threshold": "half"}, {"threshold": float("nan")}, {"top": 0}, {"top": 1.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            detect(PHOTO, **wrong)


def test_a_result_draws_itself(detect):
    found = detect(PHOTO, threshold=0, top=3)
    photo, drawn = Image.open(PHOTO), found.plot()
    assert isinstance(found, Detections) and found.image == PHOTO
    assert drawn.size == photo.size and drawn.tobytes() != photo.tobytes()
    assert detect(PHOTO, threshold=1).plot().tobytes() == photo.tobytes()
    again = pickle.loads(pickle.dumps(found))
    assert again == found and again.image == PHOTO


def test_the_report_of_a_command_line(detect):
    report, found = detect.report([str(PHOTO)]), detect(PHOTO)
    assert report.columns == ["image", "label", "score", "box"] and len(report.rows) == len(found) > 0
    assert report.records[0] == {"image": str(PHOTO), "label": found[0].label, "score": found[0].score, "box": list(found[0].box)}
    assert report.rows[0][2:] == [f"{found[0].score:.1%}", " ".join(f"{side:.0f}" for side in found[0].box)]
    assert report.results == [found]


def test_an_image_that_cannot_be_read_is_skipped_or_refused(detect):
    with pytest.raises(InputError, match="nowhere"):
        detect([PHOTO, "nowhere.jpg"])
    with pytest.warns(UserWarning, match="nowhere"):
        found = detect(["nowhere.jpg", PHOTO], errors="skip")
    assert found[0] is None and close(found[1], detect(PHOTO))
    with pytest.warns(UserWarning, match="image 1 of 1 × 500 pixels"):
        assert detect([PHOTO, Image.new("RGB", (1, 500))], errors="skip", batch_size=1)[1] is None
    assert isinstance(detect(Image.new("RGB", (1, 1)), threshold=0).plot(), Image.Image)


def test_labels_come_from_the_card(detect):
    def with_labels(given):
        return ObjectDetector(detect.net, replace(detect.card, labels=given), detect.provenance, None)

    assert {one.label for one in with_labels(None)(PHOTO, threshold=0)} <= set("01234")
    with pytest.raises(LayoutError, match="91 labels for 5 classes"):
        with_labels("coco-91")


def test_a_card_that_cuts_images_is_refused(detect):
    cut = replace(detect.card, preprocess={**detect.card.preprocess, "fit": "crop", "longest": None})
    with pytest.raises(LayoutError, match="fit: crop"):
        ObjectDetector(detect.net, cut, detect.provenance, None)


def test_the_names_of_coco_are_in_its_order():
    names = labels.names("coco-91")
    assert list(names[1:]) == _COCO_CATEGORIES[1:] and names[0] == "N/A"
    assert names[1] == "person" and names[17] == "cat" and names[90] == "toothbrush"


def test_bf16_finds_the_same(folder, detect):
    found = bestiary.load(folder, device="cpu", precision="bf16")(PHOTO, threshold=0)
    expected = {one.label for one in detect(PHOTO, threshold=0)}
    assert len(found) == 7 and {one.label for one in found} & expected


def test_objects_are_rows_of_a_table(detect):
    images = [PHOTO, PHOTO]
    for row, found in zip(table_of(detect, images), detect(images), strict=True):
        assert [(one["label"], list(one["box"].values())) for one in row["objects"]] == [
            (one.label, pytest.approx(list(one.box), rel=1e-6)) for one in found
        ]
