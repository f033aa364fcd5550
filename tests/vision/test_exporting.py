"""Nets of images as graphs: onnxruntime and torch.export give what the task objects give, by what lies in the folder alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.errors import InputError, LayoutError
from tests.exports import close, computed, example, session
from tests.vision.test_detection import folder as detr_folder  # noqa: F401
from tests.vision.test_segmentation import estimators, segmenters  # noqa: F401

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"


@pytest.fixture(scope="module")
def classify():
    return bestiary.load("efficientnet-lite0", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def plain(classify, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "onnx"
    (written,) = classify.export(folder, "onnx")
    assert written.difference <= 1e-5 and written.remarks == ["Height and width are free, 64 pixels or more."]
    return folder


@pytest.fixture(scope="module")
def prepared(classify, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "onnx"
    (written,) = classify.export(folder, "onnx", preprocessing=True)
    assert "1/255 off" in written.remarks[0]
    return folder


@pytest.mark.parametrize("shape", [(1, 224, 224), (2, 65, 300), (4, 161, 97)])
def test_logits_are_those_of_the_net_at_any_size(classify, plain, shape):
    batch, *sides = shape
    images = torch.randn(batch, 3, *sides, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = classify.net(images)
    assert close(computed(plain, images)[0], expected)


def test_names_and_labels_are_in_the_folder(classify, plain):
    assert [(given.name, given.shape) for given in session(plain).get_inputs()] == [("images", ["batch", 3, "height", "width"])]
    settings = json.loads((plain / "model.json").read_text(encoding="utf-8"))
    assert settings["labels"] == list(classify.labels)
    assert settings["preprocess"]["size"] == classify.preprocess.size
    assert sorted(path.name for path in plain.iterdir()) == ["README.md", "model.json", "model.onnx"]


@pytest.mark.parametrize("kind", ["plain", "prepared"])
def test_the_example_sees_what_the_task_sees(classify, kind, request):
    folder = request.getfixturevalue(kind)
    shutil.copy(PHOTO, folder / "cat.jpg")
    try:
        assert example(folder).splitlines() == [label.name for label in classify(PHOTO)]
    finally:
        (folder / "cat.jpg").unlink()


@pytest.mark.parametrize("size", [(451, 300), (90, 61), (200, 333)])
def test_images_of_any_size_go_in_where_the_preprocessing_does(classify, prepared, size):
    image = np.array(Image.open(PHOTO).convert("RGB").resize(size))
    (logits,) = computed(prepared, image[None])
    scores = torch.from_numpy(logits)[0].softmax(-1)
    expected = {label.name: label.score for label in classify(image)}
    found = {classify.labels[place]: score.item() for place, score in enumerate(scores)}
    assert all(abs(found[name] - score) < 0.01 for name, score in expected.items())
    assert classify.labels[scores.argmax()] == next(iter(expected))


def test_a_program_of_torch_export_has_it_all_too(classify, tmp_path):
    classify.export(tmp_path / "program", "torch.export", preprocessing=True)
    shutil.copy(PHOTO, tmp_path / "program" / "cat.jpg")
    assert example(tmp_path / "program").splitlines() == [label.name for label in classify(PHOTO)]


def test_an_embedder_gives_its_vectors(classify, tmp_path):
    embed = classify.embedder()
    embed.export(tmp_path / "onnx", "onnx")
    images = embed.preprocess([PHOTO, PHOTO])
    assert close(computed(tmp_path / "onnx", images)[0], embed([PHOTO, PHOTO]))


def test_a_segmenter_takes_any_size(segmenters, tmp_path):  # noqa: F811
    segment = segmenters[-1]
    segment.export(tmp_path / "onnx", "onnx")
    images = torch.randn(2, 3, 96, 131)
    with torch.no_grad():
        assert close(computed(tmp_path / "onnx", images)[0], segment.net(images))
    shutil.copy(PHOTO, tmp_path / "onnx" / "cat.jpg")
    assert example(tmp_path / "onnx")


def test_a_detector_takes_masks(detr_folder, tmp_path):  # noqa: F811
    detect = bestiary.load(detr_folder, device="cpu", precision="fp32")
    detect.export(tmp_path / "onnx", "onnx")
    images, mask = torch.randn(2, 3, 120, 160), torch.ones(2, 120, 160, dtype=torch.bool)
    mask[1, :, 100:] = False
    with torch.no_grad():
        expected = detect.net(images, mask)
    assert all(close(ours, theirs) for ours, theirs in zip(computed(tmp_path / "onnx", images, mask), expected, strict=True))
    shutil.copy(PHOTO, tmp_path / "onnx" / "cat.jpg")
    assert len(example(tmp_path / "onnx").splitlines()) == 5
    with pytest.raises(InputError, match="sizes of their own"):
        detect.export(tmp_path / "other", "onnx", preprocessing=True)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_depth_is_of_images_of_one_size_which_is_told(estimators, tmp_path):  # noqa: F811
    estimate = estimators[-1]
    (written,) = estimate.export(tmp_path / "onnx", "onnx")
    assert written.remarks[0].startswith("Images are 140 × 140 pixels: positions were learned for one")
    assert written.inputs == {"images": ("batch", 3, 140, 140)}
    images = torch.randn(3, 3, 140, 140)
    with torch.no_grad():
        assert close(computed(tmp_path / "onnx", images)[0], estimate.net(images))
    assert written.remarks[0] in (tmp_path / "onnx" / "README.md").read_text(encoding="utf-8")
    shutil.copy(PHOTO, tmp_path / "onnx" / "cat.jpg")
    assert example(tmp_path / "onnx")


def test_unknown_targets_list_those_there_are(classify, tmp_path):
    with pytest.raises(LayoutError, match=r"it can to: .*timm.*, onnx, torch\.export$"):
        classify.export(tmp_path / "out", "gguf-f16")
    with pytest.raises(LayoutError, match="has no graphs"):
        type("Other", (type(classify),), {"bundle": bestiary.core.task.Task.bundle})(
            classify.net, replace(classify.card), classify.provenance, classify._saver
        ).export(tmp_path / "out", "onnx")
    assert [*tmp_path.iterdir()] == []
