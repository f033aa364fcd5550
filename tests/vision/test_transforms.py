"""The numbers that a net gets are upstream's."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from timm.data import create_transform

import bestiary
from bestiary.errors import InputError, LayoutError
from bestiary.vision.transforms import Preprocess

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
LITE0 = {"size": 224, "crop": 0.875, "interpolation": "bicubic", "mean": [127 / 255] * 3, "std": [128 / 255] * 3}


def preprocess_of(**changes):
    return Preprocess.of(SimpleNamespace(name="a card", preprocess={**LITE0, **changes}))


def timms(preprocess):
    return create_transform(
        (3, preprocess.size, preprocess.size),
        is_training=False,
        crop_pct=preprocess.crop,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": 240, "crop": 0.882, "interpolation": "bilinear"},
        {"size": 380, "crop": 0.922, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"size": 33, "crop": 1.0, "interpolation": "lanczos"},
    ],
)
@pytest.mark.parametrize("size", [None, (300, 451), (256, 256), (17, 400), (1001, 256)])
def test_equal_to_timms(changes, size):
    """Exactly, for the photo as it is, upright, square, as thin as a strip, enlarged."""
    photo = Image.open(PHOTO)
    photo = photo.resize(size) if size else photo
    preprocess = preprocess_of(**changes)
    ours = preprocess([photo])
    assert ours.shape == (1, 3, preprocess.size, preprocess.size) and ours.dtype == torch.float32
    assert torch.equal(ours[0], timms(preprocess)(photo))


def test_many_are_one_batch_laid_out_as_convolutions_like_it():
    photos = [Image.open(PHOTO), Image.open(PHOTO).rotate(90, expand=True), PHOTO]
    preprocess = preprocess_of()
    batch = preprocess(photos)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for photo, pixels in zip(photos, batch, strict=True):
        assert torch.equal(preprocess([photo])[0], pixels)
    assert preprocess([]).shape == (0, 3, 224, 224)


def test_a_strip_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match="1 × 60000 pixels"):
        preprocess_of()([Image.new("L", (1, 60000))])


def test_messages_count_from_the_first_of_the_batch():
    with pytest.raises(InputError, match="image 9 "):
        preprocess_of()([PHOTO, b"no image"], first=8)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"interpolation": "magic"}, "magic"),
        ({"mean": [0.5]}, "mean"),
        ({"size": "224"}, "size"),
        ({"crop": 0}, "crop"),
        ({"crop": 1.5}, "crop"),
        ({"size": 0}, "size"),
        ({"std": [0, 1, 1]}, "std"),
    ],
)
def test_a_card_that_asks_for_something_else_is_refused(changes, named):
    with pytest.raises(LayoutError, match=named) as caught:
        preprocess_of(**changes)
    assert "a card" in str(caught.value)


def test_a_card_must_say_everything():
    with pytest.raises(LayoutError, match="mean"):
        Preprocess.of(SimpleNamespace(name="a card", preprocess={"size": 224}))
