"""The preprocessing of images as operations on tensors, beside the preprocessing itself."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.errors import InputError
from bestiary.vision.fits import FITS
from bestiary.vision.resampling import GRAPH_FITS, KERNELS, Preparation, placed
from bestiary.vision.transforms import Preprocess

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"


def preprocess_of(**changes):
    return Preprocess(**{"size": 224, "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.2)} | changes)


def images():
    photo = Image.open(PHOTO).convert("RGB")
    noise = np.random.default_rng(0).integers(0, 256, (333, 517, 3), dtype=np.uint8)
    return [*(np.array(image) for image in (photo, photo.resize((90, 61)), photo.crop((0, 0, 60, 300)))), noise]


@pytest.mark.parametrize("fit", GRAPH_FITS)
@pytest.mark.parametrize("changes", [{"crop": 0.875}, {"size": 160, "crop": 0.9}, {"size": 7, "crop": 0.5}], ids=str)
def test_images_lie_where_they_do_without_a_graph(fit, changes):
    preprocess = preprocess_of(fit=fit, **changes)
    for height, width in product(range(1, 600, 23), range(1, 600, 19)):
        place = FITS[fit](height, width, preprocess)
        sides = placed(*(torch.tensor(side, dtype=torch.float64) for side in (height, width)), preprocess)
        assert tuple(int(side.resized) for side in sides) == place.resized
        assert tuple(int(side.corner) for side in sides) == place.corner


@pytest.mark.parametrize("fit", GRAPH_FITS)
@pytest.mark.parametrize(
    ("resampler", "interpolation"), [pair for pair in product(("pillow", "torch"), KERNELS) if pair != ("torch", "lanczos")]
)
def test_values_differ_by_one_of_255_in_one_of_a_hundred_places_at_most(fit, resampler, interpolation):
    preprocess = preprocess_of(fit=fit, crop=0.9, resampler=resampler, interpolation=interpolation)
    prepare = Preparation(preprocess)
    for image in images():
        ours, theirs = prepare(torch.from_numpy(image)[None]), preprocess([image])
        steps = (ours - theirs).abs() * 255 * torch.tensor(preprocess.std).view(3, 1, 1)
        assert float((steps > 0.5).float().mean()) < 0.01
        assert float((steps > 1.5).float().mean()) < 1e-4
        assert float(steps.max()) < 2.01


def test_what_makes_no_square_is_refused():
    with pytest.raises(InputError, match="'shortest' gives images sizes of their own"):
        Preparation(preprocess_of(fit="shortest"))
