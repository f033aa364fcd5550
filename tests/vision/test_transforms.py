"""The numbers that a net gets are upstream's."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
import torch
import transformers
from PIL import Image
from timm.data import create_transform

import bestiary
from bestiary.errors import InputError, LayoutError
from bestiary.vision.fits import FITS
from bestiary.vision.transforms import Preprocess

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"  # 451 × 300
SKLEARNS = Path(sklearn.datasets.__file__).parent / "images"
PHOTOS = {"chelsea": PHOTO, "china": SKLEARNS / "china.jpg", "flower": SKLEARNS / "flower.jpg"}  # the latter two 640 × 427
LITE0 = {"size": 224, "crop": 0.875, "interpolation": "bicubic", "mean": [127 / 255] * 3, "std": [128 / 255] * 3}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def preprocess_of(**changes):
    return Preprocess.of(SimpleNamespace(name="a card", preprocess={**LITE0, **changes}))


def photo_of(name, size=None):
    photo = Image.open(PHOTOS[name])
    return photo.resize(size) if size else photo


def assert_close(preprocess, ours, theirs, steps=0.01):
    """The same pixels: a value that differed at all would be a step of the 255 of its colour away."""
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    assert ((ours - theirs).abs() * torch.tensor(preprocess.std).view(3, 1, 1) * 255).max() <= steps


def timms(preprocess):
    return create_transform(
        (3, preprocess.size, preprocess.size),
        is_training=False,
        crop_pct=preprocess.crop,
        crop_mode={"crop": "center", "squash": "squash", "pad": "border"}[preprocess.fit],
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
    )


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("crop", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("name", PHOTOS)
def test_equal_to_timms_on_photos(name, interpolation, crop, fit):
    photo = photo_of(name)
    preprocess = preprocess_of(fit=fit, crop=crop, interpolation=interpolation, **IMAGENET)
    assert_close(preprocess, preprocess([photo])[0], timms(preprocess)(photo))


UPRIGHT = [(300, 451), (17, 400)]  # which Pillow 13 squashes from top to bottom first; see below
OTHERS = [(256, 256), (400, 17), (1001, 256), (224, 224), (1, 1)]


@pytest.mark.parametrize(
    ("fit", "size"), [(fit, size) for fit in ("crop", "squash", "pad") for size in [*UPRIGHT * (fit != "squash"), *OTHERS]]
)
@pytest.mark.parametrize(
    "changes",
    [{"size": 240, "crop": 0.882}, {"size": 99, "crop": 0.92, **IMAGENET}, {"size": 33, "crop": 1.0, "interpolation": "lanczos"}],
)
def test_equal_to_timms_in_every_shape(changes, fit, size):
    """Upright, square, as thin as a strip, of the very size, of a pixel, enlarged."""
    photo, preprocess = photo_of("chelsea", size), preprocess_of(fit=fit, **changes)
    upright = size in UPRIGHT  # of which Pillow 13, and so timm, may take the columns first
    assert_close(preprocess, preprocess([photo])[0], timms(preprocess)(photo), 1.01 if upright else 0.01)


SIDES = {"height": 224, "width": 224}
HALVES = {"mean": [0.5] * 3, "std": [0.5] * 3}
CLIPS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
CUT = {"fit": "crop_floor", "size": 224, "interpolation": "bicubic"}
SQUASHED = {"fit": "squash", "size": 224, "crop": 1.0}
# Processors of transformers as their models' files set them, and the same as the card of one would say it.
PROCESSORS = {
    "ViT": ({"size": SIDES, "resample": 2}, {**SQUASHED, "interpolation": "bilinear", **HALVES}),
    "DeiT": (
        {"size": {"height": 256, "width": 256}, "crop_size": SIDES, "resample": 3},
        {"fit": "squash", "size": 224, "crop": 0.875, "interpolation": "bicubic", **IMAGENET},
    ),
    "Siglip": ({"size": SIDES, "resample": 3}, {**SQUASHED, "interpolation": "bicubic", **HALVES}),
    "CLIP": ({"size": {"shortest_edge": 224}, "crop_size": SIDES}, {**CUT, "crop": 1.0, **CLIPS}),
    "Bit": (
        {"size": {"shortest_edge": 256}, "crop_size": SIDES, "resample": 3},
        {**CUT, "crop": 0.875, **CLIPS},
    ),
    "ConvNext": ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, {**CUT, "crop": 0.875}),
    "ConvNext at 384": (
        {"size": {"shortest_edge": 384}, "resample": 3},
        {"fit": "squash", "size": 384, "crop": 1.0, "interpolation": "bicubic"},
    ),
    "Segformer": (
        {"size": {"height": 512, "width": 512}, "resample": 2},
        {"fit": "squash", "size": 512, "crop": 1.0, "interpolation": "bilinear", **IMAGENET},
    ),
    "Detr": (
        {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_pad": False},
        {"fit": "shortest", "size": 800, "longest": 1333, "crop": 1.0, "interpolation": "bilinear", **IMAGENET},
    ),
    "Detr, smaller": (
        {"size": {"shortest_edge": 200, "longest_edge": 280}, "do_pad": False},
        {"fit": "shortest", "size": 200, "longest": 280, "crop": 1.0, "interpolation": "bilinear", **IMAGENET},
    ),
    "DPT": (
        {"size": {"height": 384, "width": 384}, "resample": 3},
        {"fit": "squash", "size": 384, "crop": 1.0, "interpolation": "bicubic", **HALVES},
    ),
    "DPT of Depth Anything": (
        {"size": {"height": 518, "width": 518}, "keep_aspect_ratio": True, "ensure_multiple_of": 14, "resample": 3},
        {"fit": "multiple", "size": 518, "multiple": 14, "crop": 1.0, "interpolation": "bicubic", **IMAGENET},
    ),
    "DPT of MiDaS": (
        {"size": {"height": 384, "width": 384}, "keep_aspect_ratio": True, "ensure_multiple_of": 32, "resample": 3},
        {"fit": "multiple", "size": 384, "multiple": 32, "crop": 1.0, "interpolation": "bicubic", **HALVES},
    ),
}
# Those by Pillow, which transformers once called slow, and those by torchvision, which it called fast.
KINDS = [("ImageProcessorPil", "pillow"), ("ImageProcessor", "torch")]


@pytest.mark.parametrize(("kind", "resampler"), KINDS)
@pytest.mark.parametrize("size", [None, (999, 333), (150, 144), (427, 640)], ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_equal_to_those_of_transformers(name, size, kind, resampler):
    if kind == "ImageProcessorPil" and size == (427, 640) and PROCESSORS[name][1]["fit"] == "squash":
        size = (640, 640)  # Pillow 13 squashes what is upright from top to bottom first; see below
    settings, card = PROCESSORS[name]
    preprocess = preprocess_of(**card, resampler=resampler)
    processor = getattr(transformers, name.split()[0].rstrip(",") + kind)(
        **settings, image_mean=list(preprocess.mean), image_std=list(preprocess.std)
    )
    photo = photo_of("china", size)
    theirs = torch.as_tensor(processor(photo, return_tensors="pt")["pixel_values"][0])
    pixels, place = preprocess.seen(photo)
    assert_close(preprocess, preprocess.normalize(pixels), theirs)
    assert place.canvas == theirs.shape[1:] and place.original == (photo.height, photo.width)


HOW = [("pillow", "bilinear"), ("pillow", "bicubic"), ("pillow", "lanczos"), ("torch", "bilinear"), ("torch", "bicubic")]
all_ways = pytest.mark.parametrize(("resampler", "interpolation"), HOW)


@all_ways
def test_rows_are_shortened_before_columns(resampler, interpolation):
    """As torch does it, and Pillow did until 13, which begins with the columns where they get much shorter than rows.

    Each direction is rounded and clipped, so that the order shows beside hard edges, by up to 5/255.
    """
    photo = photo_of("china", (427, 640))
    pixels, _ = preprocess_of(fit="squash", size=384, crop=1.0, interpolation=interpolation, resampler=resampler).seen(photo)
    how = Image.Resampling[interpolation.upper()]
    theirs = torch.from_numpy(np.array(photo.resize((384, 640), how).resize((384, 384), how))).permute(2, 0, 1)
    assert (pixels.int() - theirs).abs().max() <= (0 if resampler == "pillow" else 1)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("kind", "resampler"), KINDS)
def test_photos_are_as_in_transformers(name, kind, resampler):
    processor = getattr(transformers, "CLIP" + kind)()
    preprocess = preprocess_of(**PROCESSORS["CLIP"][1], resampler=resampler)
    theirs = torch.as_tensor(processor(photo_of(name), return_tensors="pt")["pixel_values"])
    assert_close(preprocess, preprocess([photo_of(name)]), theirs)


def test_the_corner_of_an_odd_margin_is_the_only_difference_of_the_two_crops():
    """Of 3 pixels too many, torchvision cuts 2 at the top and transformers 1; of 1, neither any."""
    sizes = preprocess_of(size=10, crop=1.0)
    for long, corner in ((13, 2), (11, 0), (15, 2), (14, 2)):
        assert FITS["crop"](10, long, sizes).corner == (0, -corner)
        assert FITS["crop_floor"](10, long, sizes).corner == (0, -((long - 10) // 2))


def test_padding_has_the_colour_that_the_card_says():
    photo = Image.new("RGB", (40, 20), (10, 20, 30))
    pixels, place = preprocess_of(fit="pad", size=40, crop=1.0, fill=[255, 0, 1]).seen(photo)
    assert place == ((20, 40), (20, 40), (10, 0), (40, 40))
    assert pixels[:, :10].flatten(1).unique(dim=1).tolist() == [[255], [0], [1]]
    assert pixels[:, 10:30].flatten(1).unique(dim=1).tolist() == [[10], [20], [30]]
    assert pixels[:, 30:].flatten(1).unique(dim=1).tolist() == [[255], [0], [1]]
    assert preprocess_of(fit="pad", **IMAGENET).seen(photo)[0][:, 0, 0].tolist() == [124, 116, 104]


@pytest.mark.parametrize("fit", FITS)
def test_a_placement_leads_back_to_the_image(fit):
    """A white dot lies where the placement says that it does."""
    photo = torch.zeros(3, 300, 400, dtype=torch.uint8)
    photo[:, 148:153, 228:233] = 255
    pixels, place = preprocess_of(fit=fit, size=140, crop=0.9, multiple=14, fill=[0, 0, 0]).seen(photo)
    assert pixels.shape[1:] == place.canvas
    row, column = (int(axis.float().mean()) for axis in torch.where(pixels[0] > 60))
    back = [(seen + 0.5 - place.corner[i]) * place.original[i] / place.resized[i] for i, seen in enumerate((row, column))]
    assert back == pytest.approx([150.5, 230.5], abs=2.5)


@pytest.mark.parametrize("fit", ["shortest", "multiple"])
def test_images_of_their_own_sizes_are_no_batch(fit):
    with pytest.raises(InputError, match=fit):
        preprocess_of(fit=fit)([PHOTO])


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (2, 3), (1, 1)])
def test_the_smallest_images_become_at_least_a_pixel(size):
    photo = photo_of("chelsea", size)
    for fit in FITS:
        pixels, place = preprocess_of(fit=fit, size=28, longest=30, multiple=14).seen(photo)
        assert min(place.resized) >= 1 and pixels.shape[1:] == place.canvas
    assert not any(side % 14 for side in place.canvas)


def test_many_are_one_batch_laid_out_as_convolutions_like_it():
    photos = [Image.open(PHOTO), Image.open(PHOTO).rotate(90, expand=True), PHOTO]
    preprocess = preprocess_of()
    batch = preprocess(photos)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for photo, pixels in zip(photos, batch, strict=True):
        assert torch.equal(preprocess([photo])[0], pixels)
    assert preprocess([]).shape == (0, 3, 224, 224)


@pytest.fixture
def threads():
    """As on a machine of four cores."""
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(usual)


def test_threads_change_no_number_and_no_order(threads):
    preprocess, photos = preprocess_of(), [*PHOTOS.values()] * 5
    batch = preprocess(photos)
    assert torch.equal(batch, torch.cat([preprocess([photo]) for photo in photos]))
    assert torch.get_num_threads() == threads


def test_an_image_that_is_in_a_batch_many_times_is_opened_once(threads):
    """Pillow reads an image when it is first asked for a pixel, and two threads must not ask at once."""
    photo = Image.open(PHOTOS["china"])
    batch = preprocess_of()([photo] * 16)
    assert all(torch.equal(pixels, batch[0]) for pixels in batch)
    assert torch.equal(batch[0], preprocess_of()([PHOTOS["china"]])[0])


def test_the_first_of_several_bad_images_is_named(threads):
    with pytest.raises(InputError, match="image 9 "):
        preprocess_of()([PHOTO, b"no image", PHOTO, b"nor this"], first=8)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalization_takes_the_mean_away_and_divides(layout):
    pixels = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8).contiguous(memory_format=layout)
    preprocess = preprocess_of(**IMAGENET)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    expected = (pixels.double() / 255 - mean) / std
    assert torch.allclose(preprocess.normalize(pixels).double(), expected, atol=1e-6)
    assert torch.allclose(preprocess.normalize(pixels[1]).double(), expected[1], atol=1e-6)


@all_ways
def test_grey_stays_grey_at_any_size(resampler, interpolation):
    """Weights that do not add up to one would show."""
    for size in ((7, 9), (50, 61), (224, 224), (500, 333)):
        pixels = preprocess_of(interpolation=interpolation, resampler=resampler).seen(Image.new("L", size, 77))[0]
        assert pixels.unique().tolist() == [77]


def test_a_strip_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match="image 3 of 1 × 60000 pixels"):
        preprocess_of()([Image.new("L", (1, 60000))], first=3)


def test_messages_count_from_the_first_of_the_batch():
    with pytest.raises(InputError, match="image 9 "):
        preprocess_of()([PHOTO, b"no image"], first=8)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"interpolation": "magic"}, "magic"),
        ({"fit": "stretch"}, "stretch"),
        ({"mean": [0.5]}, "mean"),
        ({"size": "224"}, "size"),
        ({"crop": 0}, "crop"),
        ({"crop": 1.5}, "crop"),
        ({"size": 0}, "size"),
        ({"size": 10_000}, "size"),
        ({"std": [0, 1, 1]}, "std"),
        ({"longest": 100}, "longest"),
        ({"multiple": 0}, "multiple"),
        ({"resampler": "magic"}, "magic"),
        ({"resampler": "torch", "interpolation": "lanczos"}, "resampler"),
        ({"fill": [0, 0, 256]}, "fill"),
        ({"fill": [0.5, 0.5, 0.5]}, "fill"),
    ],
)
def test_a_card_that_asks_for_something_else_is_refused(changes, named):
    with pytest.raises(LayoutError, match=named) as caught:
        preprocess_of(**changes)
    assert "a card" in str(caught.value)


def test_a_card_must_say_everything():
    with pytest.raises(LayoutError, match="mean"):
        Preprocess.of(SimpleNamespace(name="a card", preprocess={"size": 224}))
