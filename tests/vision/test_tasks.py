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


# What is in the photo, with the scores of timm's net, of the same weights and timm's own preprocessing.
SEEN = {
    "efficientnet-lite0": {
        "tiger cat": 0.37757, "Egyptian cat": 0.36336, "tabby": 0.17469, "lynx": 0.01926, "window screen": 0.00120,
    },
    "efficientnet-lite1": {
        "Egyptian cat": 0.41729, "tiger cat": 0.24480, "tabby": 0.14546, "lynx": 0.01330, "butternut squash": 0.00201,
    },
    "efficientnet-lite2": {
        "Egyptian cat": 0.58359, "tiger cat": 0.14103, "tabby": 0.11094, "lynx": 0.00978, "lens cap": 0.00201,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_chelsea_is_a_cat(name):
    found = bestiary.load(name, device="cpu", precision="fp32")(PHOTO)
    assert [label.name for label in found] == list(SEEN[name])
    assert [label.score for label in found] == pytest.approx(list(SEEN[name].values()), abs=1e-4)
    assert all(isinstance(label, Label) and isinstance(label.score, float) for label in found)


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
    assert report.rows[0] == [str(PHOTO), 1, "tiger cat", "37.8%"] and len(report.rows) == 5
    assert report.records[0] == {
        "image": str(PHOTO), "rank": 1, "label": "tiger cat", "score": pytest.approx(0.37757, abs=1e-4),
    }  # fmt: skip


@pytest.mark.parametrize("image", [7, None, "nowhere.jpg", b"no image", __file__, "", np.zeros(3)])
def test_bad_input_is_an_input_error_of_three_lines(classify, image):
    for given in (image, [PHOTO, image]):
        with pytest.raises(InputError) as caught:
            classify(given)
        assert len(str(caught.value).splitlines()) <= 3


def test_a_row_of_a_data_set_and_an_open_file_are_no_lists_of_images(classify):
    with open(PHOTO, "rb") as file:
        for given in ({"image": str(PHOTO), "label": 3}, file):
            with pytest.raises(InputError, match=f"image 0 is of type {type(given).__name__}"):
                classify(given)


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_strip_is_named_and_left_out_like_what_cannot_be_read(classify, errors, tmp_path):
    strip, path = Image.new("RGB", (1, 500)), tmp_path / "strip.png"
    strip.save(path)
    for given, name in ((strip, "image 1"), (path, "strip.png")):
        message = rf"{name} of 1 × 500 pixels is too long and thin"
        if errors == "raise":
            with pytest.raises(InputError, match=message):
                classify([PHOTO, given])
        else:
            with pytest.warns(UserWarning, match=message):
                found = classify([PHOTO, given, PHOTO], errors=errors)
            assert found[1] is None and close(found[0], found[2])


def test_one_damaged_photo_in_a_hundred_is_named_and_the_rest_goes_on(classify):
    photos = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(100)]
    photos[37] = PHOTO.read_bytes()[:9000]
    with pytest.raises(InputError, match="image 37 is a damaged image"):
        classify(photos)
    for given in (photos, iter(photos)):
        with pytest.warns(UserWarning, match="skipped: image 37 is a damaged image") as warned:
            found = list(classify(given, errors="skip", batch_size=7))
        assert len(warned) == 1 and [number for number, labels in enumerate(found) if labels is None] == [37]
    assert close(found[99], classify(photos[99]))


def test_what_cannot_be_fetched_is_left_out_too(classify, monkeypatch):
    monkeypatch.setenv("BESTIARY_OFFLINE", "1")
    with pytest.warns(UserWarning, match=r"skipped: https://example\.org/cat\.jpg needs the network"):
        found = classify(["https://example.org/cat.jpg", PHOTO], errors="skip")
    assert found[0] is None and found[1][0].name == "tiger cat"


def test_one_pixel_is_an_image(classify):
    for image in (Image.new("RGB", (1, 1), (200, 30, 60)), np.zeros((1, 1), np.uint8), torch.zeros(3, 1, 1)):
        found = classify(image)
        assert len(found) == 5 and found.plot().width >= 1
    assert classify.explain(image).values.shape == (1, 1)


def test_an_error_of_the_one_who_gives_images_is_his_own(classify):
    def photos():
        yield PHOTO
        raise RuntimeError("the camera is gone")

    for errors in ("raise", "skip"):
        with pytest.raises(RuntimeError, match="the camera is gone"):
            list(classify(photos(), errors=errors))


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": -1}, {"batch_size": 2.5}, {"batch_size": "8"}, {"errors": "ignore"}], ids=str
)
def test_wrong_options_are_refused_before_an_image_is_read(classify, options):
    for given in ("nowhere.jpg", [], ["nowhere.jpg"], iter(["nowhere.jpg"])):
        with pytest.raises(InputError, match=f"{next(iter(options))}="):
            classify(given, **options)


def test_a_precision_that_there_is_not_is_refused_before_anything_is_fetched(tmp_path):
    with pytest.raises(InputError, match="precision='fp8'"):
        bestiary.load("efficientnet-lite0", precision="fp8", home=tmp_path, offline=True)
    assert not list(tmp_path.rglob("*.*"))


def test_the_message_counts_over_batches(classify):
    with pytest.raises(InputError, match="image 4 "):
        classify([PHOTO, PHOTO, PHOTO, PHOTO, b"no image"], batch_size=2)


@pytest.mark.parametrize("top", [0, -1, 2.5, "five", True])
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


def test_a_net_without_classes_classifies_nothing(classify):
    net = bestiary.build("efficientnet-lite0", num_classes=0)
    with pytest.raises(LayoutError, match="has no classes to name"):
        ImageClassifier(net, replace(classify.card, labels=None), classify.provenance, None)


def test_the_names_of_imagenet_are_in_its_order():
    """Known places, and no two classes of one name."""
    names = labels.names("imagenet-1k")
    assert len(set(names)) == len(names) == 1000
    known = {0: "tench", 1: "goldfish", 281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 954: "banana", 967: "espresso"}
    assert {index: names[index] for index in known} == known
    assert names[-1] == "toilet tissue" and all(name == name.strip() != "" for name in names)


def test_a_new_head_has_its_labels_and_is_saved_with_them(tmp_path):
    classify = bestiary.load("efficientnet-lite0")
    classify.replace_head(["cat", "dog", "owl"])
    scores = {label.name: label.score for label in classify(PHOTO)}
    assert scores.keys() == {"cat", "dog", "owl"}
    classify.save(tmp_path / "tuned")
    again = bestiary.load(tmp_path / "tuned")
    assert again.labels == ("cat", "dog", "owl") and not again.card.metrics
    assert {label.name: label.score for label in again(PHOTO)} == pytest.approx(scores)


@pytest.mark.parametrize("labels", ["cat", ["cat", "cat"], ["cat", 2], []])
def test_labels_of_a_new_head_are_different_names(labels):
    classify = bestiary.load("efficientnet-lite0")
    with pytest.raises(InputError):
        classify.replace_head(labels)
    assert len(classify.labels) == classify.net.head.out_features == 1000
