"""The real classifier on real photos, and what people give it by mistake."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.core.labels import Label
from bestiary.errors import InputError, LayoutError
from bestiary.vision import labels
from bestiary.vision.tasks.classification import ImageClassifier

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"


@pytest.fixture(scope="module")
def classify():
    return bestiary.load("efficientnet-lite0", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def photos():
    """The photo, its mirror image, a part of it."""
    photo = Image.open(PHOTO)
    return [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), photo.crop((100, 0, 400, 300))]


def close(ours, theirs):
    return [label.name for label in ours] == [label.name for label in theirs] and np.allclose(
        [label.score for label in ours], [label.score for label in theirs], atol=1e-5
    )


def test_chelsea_is_a_cat(classify):
    """The scores are those of timm's tf_efficientnet_lite0 with the same weights and timm's own preprocessing.

    Pillow, by which that resizes, rounds a few pixels the other way.
    """
    found = classify(PHOTO)
    assert [label.name for label in found] == ["tiger cat", "Egyptian cat", "tabby", "lynx", "window screen"]
    assert [label.score for label in found] == pytest.approx([0.37757, 0.36336, 0.17469, 0.01926, 0.00120], abs=1e-3)
    assert all(isinstance(label, Label) and isinstance(label.score, float) for label in found)


@pytest.mark.parametrize(
    ("name", "labels", "scores"),
    [
        (
            "efficientnet-lite1",
            ["Egyptian cat", "tiger cat", "tabby", "lynx", "butternut squash"],
            [0.41729, 0.24480, 0.14546, 0.01330, 0.00201],
        ),
        (
            "efficientnet-lite2",
            ["Egyptian cat", "tiger cat", "tabby", "lynx", "lens cap"],
            [0.58359, 0.14103, 0.11094, 0.00978, 0.00201],
        ),
    ],
)
def test_larger_nets_see_a_cat_too(name, labels, scores):
    """The scores are those of timm's nets of these names, as above."""
    found = bestiary.load(name, device="cpu", precision="fp32")(PHOTO)
    assert [label.name for label in found] == labels
    assert [label.score for label in found] == pytest.approx(scores, abs=2e-3)


def test_scores_are_probabilities_of_all_classes(classify):
    found = classify(PHOTO, top=5000)
    assert len(found) == 1000 and {label.name for label in found} == set(labels.names("imagenet-1k"))
    assert sum(label.score for label in found) == pytest.approx(1)
    assert sorted(found, key=lambda label: -label.score) == found


def test_one_gives_one_a_list_a_list_an_iterator_an_iterator(classify, photos):
    one = classify(photos[0])
    assert close(classify([photos[0]])[0], one) and close(classify((photos[0],))[0], one)
    assert classify([]) == []
    many = classify(photos, batch_size=2)
    assert len(many) == 3 and close(many[0], one)
    asked = []
    stream = classify((asked.append(photo) or photo for photo in photos), batch_size=1, top=1)
    assert asked == []
    assert next(stream)[0].name == "tiger cat" and len(asked) == 1
    assert len(list(stream)) == 2
    assert list(classify(iter([]))) == []


def test_a_fourth_dimension_makes_a_list(classify):
    pixels = np.stack([np.asarray(Image.open(PHOTO))] * 2)
    one = classify(PHOTO)
    for batch in (pixels, torch.tensor(pixels).permute(0, 3, 1, 2)):
        found = classify(batch)
        assert len(found) == 2 and close(found[1], one)
    assert classify(pixels[:0]) == []


def test_an_image_alone_is_what_it_is_among_others(classify, photos):
    together = classify(photos)
    assert all(close(classify(photo), found) for photo, found in zip(photos, together, strict=True))


def test_features_are_the_maps_below_the_head(classify, photos):
    maps = classify.features(photos, batch_size=2)
    assert maps.shape == (3, 1280, 7, 7) and maps.dtype == torch.float32
    logits = classify.net.head(maps.mean((2, 3)))
    assert [classify.labels[index] for index in logits.argmax(1)] == [found[0].name for found in classify(photos)]
    torch.testing.assert_close(classify.features(photos[0]), maps[0], atol=1e-4, rtol=1e-4)
    assert classify.features([]).shape == (0, 1280, 7, 7)
    assert [one.shape for one in classify.features(iter(photos))] == [(1280, 7, 7)] * 3


def test_bf16_sees_the_same_cat():
    found = bestiary.load("efficientnet-lite0", device="cpu", precision="bf16")(PHOTO, top=2)
    assert {label.name for label in found} == {"tiger cat", "Egyptian cat"}
    assert found[0].score == pytest.approx(0.37757, abs=0.05)


def test_several_threads_get_the_same_answer(classify, photos):
    expected, found = classify(photos), [None] * 4

    def ask(place):
        found[place] = classify(photos)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(a, b) for answers in found for a, b in zip(answers, expected, strict=True))


def test_the_report_of_a_command_line(classify):
    report = classify.report([str(PHOTO)])
    assert report.columns == ["image", "rank", "label", "score"]
    assert report.rows[0] == [str(PHOTO), 1, "tiger cat", "37.7%"] and len(report.rows) == 5
    assert report.records[0] == {
        "image": str(PHOTO), "rank": 1, "label": "tiger cat", "score": pytest.approx(0.37757, abs=1e-3),
    }  # fmt: skip


@pytest.mark.parametrize("image", [7, None, "nowhere.jpg", b"no image", __file__, "", np.zeros(3)])
def test_bad_input_is_an_input_error_of_three_lines(classify, image):
    for given in (image, [PHOTO, image]):
        with pytest.raises(InputError) as caught:
            classify(given)
        assert len(str(caught.value).splitlines()) <= 3


def test_the_message_counts_over_batches(classify):
    with pytest.raises(InputError, match="image 4 "):
        classify([PHOTO, PHOTO, PHOTO, PHOTO, b"no image"], batch_size=2)


@pytest.mark.parametrize("top", [0, -1, 2.5, "five"])
def test_a_wrong_number_of_labels_is_refused(classify, top):
    with pytest.raises(InputError, match="top="):
        classify(PHOTO, top=top)


def test_labels_come_from_the_card(classify):
    def with_labels(given):
        return ImageClassifier(classify.net, replace(classify.card, labels=given), classify.provenance, None)

    assert with_labels(None)(PHOTO)[0].name == "282"
    assert with_labels(tuple(f"class {index}" for index in range(1000)))(PHOTO)[0].name == "class 282"
    with pytest.raises(LayoutError, match="2 labels for 1000 classes"):
        with_labels(("cat", "dog"))
    with pytest.raises(LayoutError, match="imagenet-1k"):
        with_labels("imagenet-3k")


def test_the_names_of_imagenet_are_in_its_order():
    """Known places, and no two classes of one name."""
    names = labels.names("imagenet-1k")
    assert len(set(names)) == len(names) == 1000
    known = {0: "tench", 1: "goldfish", 281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 954: "banana", 967: "espresso"}
    assert {index: names[index] for index in known} == known
    assert names[-1] == "toilet tissue" and all(name == name.strip() != "" for name in names)
