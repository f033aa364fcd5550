"""The tasks that answer for every pixel, beside what transformers makes of the same images with the same weights."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

import bestiary
from bestiary.errors import InputError, LayoutError
from bestiary.vision.tasks import segmentation
from bestiary.vision.tasks.depth import Depth, DepthEstimator
from bestiary.vision.tasks.segmentation import Segmentation, Segmenter, likeliest
from tests.tables import table_of
from tests.vision.nets import difference, scattered

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
CLASSES = ("cat", "nose", "eye", "whisker", "background")


def photos():
    """The photo, upright, small, and wide: none of them a size that a net sees."""
    photo = Image.open(PHOTO).convert("RGB")
    return [photo, photo.transpose(Image.Transpose.ROTATE_90), photo.resize((90, 61)), photo.crop((0, 100, 451, 180)), photo]


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory):
    """The model and the processor of transformers, and ours from the same folder."""
    folder = tmp_path_factory.mktemp("segformer")
    config = transformers.SegformerConfig(
        depths=(1, 1, 1, 1), hidden_sizes=(8, 16, 16, 32), num_attention_heads=(1, 2, 2, 4), decoder_hidden_size=16
    )
    config.id2label, config.label2id = dict(enumerate(CLASSES)), {name: index for index, name in enumerate(CLASSES)}
    model, processor = scattered(transformers.SegformerForSemanticSegmentation(config)), transformers.SegformerImageProcessor()
    with torch.no_grad():  # so that no class is the likeliest everywhere
        logits = model(**processor(photos()[0], return_tensors="pt")).logits
        model.decode_head.classifier.bias -= logits.mean((0, 2, 3))
    return saved(model, processor, folder)


@pytest.fixture(scope="module")
def estimators(tmp_path_factory):
    encoder = transformers.Dinov2Config(
        image_size=56, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=encoder, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8,
        head_hidden_size=4,
    )  # fmt: skip
    model = scattered(transformers.DepthAnythingForDepthEstimation(config))
    torch.nn.init.constant_(model.head.conv3.bias, 2.0)  # so that no ReLU hides what comes before
    processor = transformers.DPTImageProcessor(
        size={"height": 140, "width": 140}, keep_aspect_ratio=True, ensure_multiple_of=14,
    )  # fmt: skip
    return saved(model, processor, tmp_path_factory.mktemp("depth"))


def saved(model, processor, folder):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor, bestiary.load(folder, device="cpu", precision="fp32")


@torch.no_grad()
def test_masks_are_those_of_transformers_at_the_size_of_the_image(segmenters):
    model, processor, segment = segmenters
    assert isinstance(segment, Segmenter)
    for photo, found in zip(photos(), segment(photos(), batch_size=3), strict=True):
        outputs = model(**processor(photo, return_tensors="pt"))
        (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[photo.size[::-1]])
        assert found.mask.shape == expected.shape == photo.size[::-1] and found.mask.dtype == torch.int64
        assert len(expected.unique()) > 2
        assert (found.mask == expected).float().mean() > 0.9999  # rounding may turn a tie


@torch.no_grad()
def test_depths_are_those_of_transformers_at_the_size_of_the_image(estimators):
    model, processor, estimate = estimators
    assert isinstance(estimate, DepthEstimator)
    for photo, found in zip(photos(), estimate(photos(), batch_size=3), strict=True):
        inputs = processor(photo, return_tensors="pt")
        (expected,) = processor.post_process_depth_estimation(model(**inputs), target_sizes=[photo.size[::-1]])
        assert found.depth.shape == photo.size[::-1] and found.depth.dtype == torch.float32
        assert found.depth.std() > 0.01
        assert difference(found.depth, expected["predicted_depth"]) <= 1e-5


def test_an_image_alone_is_what_it_is_among_others(segmenters, estimators):
    segment, estimate = segmenters[2], estimators[2]
    for photo, mask, depth in zip(photos(), segment(photos()), estimate(photos()), strict=True):
        assert (segment(photo).mask == mask.mask).float().mean() > 0.9999
        assert difference(estimate(photo).depth, depth.depth) <= 1e-5


@pytest.mark.parametrize("name", ["segmenters", "estimators"])
def test_one_gives_one_a_list_a_list_an_iterator_an_iterator(name, request):
    task = request.getfixturevalue(name)[2]
    kind = {"segmenters": Segmentation, "estimators": Depth}[name]
    assert isinstance(task(PHOTO), kind) and task([]) == []
    stream = task((photo for photo in photos()), batch_size=2)
    assert isinstance(next(stream), kind) and len(list(stream)) == 4
    with pytest.raises(InputError, match="image 1 "):
        task([PHOTO, b"no image"])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        first, nothing, last = task([photos()[0], b"no image", photos()[2]], errors="skip")
    assert nothing is None and len(warned) == 1
    assert task(Image.new("RGB", (1, 1))).plot().width >= 1
    assert (first.image.size, last.image.size) == ((451, 300), (90, 61))
    drawn = [found.plot() for found in (first, last)]
    assert all(isinstance(picture, Image.Image) for picture in drawn) and drawn[0].width >= 451


def test_shares_are_of_the_classes_in_the_image_the_largest_first():
    mask = torch.tensor([[2, 2, 0], [2, 2, 4]])
    found = Segmentation(mask, CLASSES, Image.new("RGB", (3, 2)))
    assert found.shares == pytest.approx({"eye": 4 / 6, "cat": 1 / 6, "background": 1 / 6})
    assert next(iter(found.shares)) == "eye"
    assert torch.equal(found.mask_of("eye"), mask == 2) and not found.mask_of("nose").any()
    with pytest.raises(InputError, match="no class 'dog'\nthe classes in this image: eye, cat, background"):
        found.mask_of("dog")


def test_a_plot_shows_the_photo_and_what_was_found_in_it(segmenters, estimators):
    photo = photos()[0]
    plain = np.asarray(photo).astype(int)
    tinted = np.asarray(segmenters[2](photo).plot())
    assert tinted.shape[0] > photo.height and np.abs(tinted[: photo.height].astype(int) - plain).mean() > 5
    beside = np.asarray(estimators[2](photo).plot())
    assert beside.shape == (photo.height, 2 * photo.width, 3)
    assert np.array_equal(beside[:, : photo.width], plain) and len(np.unique(beside[:, photo.width :])) > 50


def test_the_classes_of_a_large_image_are_compared_in_parts(monkeypatch):
    logits = torch.randn(11, 9, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits[None], (50, 80), mode="bilinear", align_corners=False)[0].argmax(0)
    assert torch.equal(likeliest(logits, (50, 80)), expected)
    for at_once in (1, 3 * 50 * 80):
        monkeypatch.setattr(segmentation, "AT_ONCE", at_once)
        assert torch.equal(likeliest(logits, (50, 80)), expected)


def test_reports_of_a_command_line(segmenters, estimators):
    found = segmenters[2](PHOTO)
    report = segmenters[2].report([str(PHOTO)])
    assert report.columns == ["image", "label", "share"] and len(report.results) == 1
    assert {record["label"]: record["share"] for record in report.records} == found.shares
    name, share = next(iter(found.shares.items()))
    assert report.rows[0] == [str(PHOTO), name, f"{share:.1%}"]

    depth = estimators[2](PHOTO).depth
    report = estimators[2].report([str(PHOTO), str(PHOTO)])
    assert report.columns == ["image", "height", "width", "least", "most"] and len(report.results) == 2
    assert report.records[1] == {
        "image": str(PHOTO), "height": 300, "width": 451,
        "least": pytest.approx(depth.min().item()), "most": pytest.approx(depth.max().item()),
    }  # fmt: skip
    assert report.rows[0] == [str(PHOTO), 300, 451, f"{depth.min():.2f}", f"{depth.max():.2f}"]


@pytest.mark.parametrize("changes", [{"fit": "crop"}, {"fit": "pad"}, {"crop": 0.9}])
def test_what_does_not_see_the_whole_image_is_refused(segmenters, changes):
    task = segmenters[2]
    card = replace(task.card, preprocess={**task.card.preprocess, **changes})
    with pytest.raises(LayoutError, match="has to see all"):
        Segmenter(task.net, card, task.provenance, None)


def test_labels_come_from_the_card(segmenters):
    task = segmenters[2]
    assert task.labels == CLASSES
    assert Segmenter(task.net, replace(task.card, labels=None), task.provenance, None).labels == tuple("01234")
    with pytest.raises(LayoutError, match="2 labels for 5 classes"):
        Segmenter(task.net, replace(task.card, labels=("cat", "dog")), task.provenance, None)


def test_masks_and_depths_are_rows_of_a_table(segmenters, estimators):
    segment, estimate = segmenters[2], estimators[2]
    images = photos()[:3]
    for row, found in zip(table_of(segment, images), segment(images), strict=True):
        assert torch.tensor(row["mask"]).view(row["height"], row["width"]).equal(found.mask)
        assert dict(zip(row["labels"], row["shares"], strict=True)) == pytest.approx(found.shares)
    for row, found in zip(table_of(estimate, images), estimate(images), strict=True):
        assert torch.tensor(row["depth"]).view(row["height"], row["width"]).equal(found.depth)
        assert (row["least"], row["most"]) == (min(row["depth"]), max(row["depth"]))
