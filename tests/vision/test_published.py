"""What timm publishes beside its weights says how images are fitted, both ways."""

import json
from types import SimpleNamespace

import pytest
import torch
from timm.data import create_transform, resolve_data_config

from bestiary.errors import LayoutError
from bestiary.vision.images import read_image
from bestiary.vision.published import TimmFolder
from bestiary.vision.transforms import Preprocess
from tests.vision.test_transforms import PHOTO

FOLDER = TimmFolder(stem="stem", head="head")
GIVEN = {
    "input_size": [3, 96, 96], "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
}  # fmt: skip


def card_of(preprocess):
    return SimpleNamespace(name="a card", preprocess=preprocess, labels=None)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_images_are_fitted_as_timm_fits_them(mode, tmp_path):
    said = {**GIVEN, "crop_mode": mode}
    preprocess = FOLDER.read(tmp_path, {"pretrained_cfg": said}).preprocess
    ours = Preprocess.of(card_of(preprocess))([PHOTO])[0]
    theirs = create_transform(**resolve_data_config(pretrained_cfg=said))(read_image(PHOTO))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    written = FOLDER.write(card_of(preprocess), {"num_classes": 1000})["config.json"]["pretrained_cfg"]
    assert {key: written[key] for key in said} == said


def test_a_card_that_leaves_the_usual_unsaid_is_written_with_it():
    preprocess = {"size": 96, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    written = FOLDER.write(card_of(preprocess), {"num_classes": 1000})["config.json"]["pretrained_cfg"]
    assert (written["crop_mode"], written["crop_pct"]) == ("center", 1.0)
    json.dumps(written)


def test_a_fit_that_timm_does_not_have_is_not_written():
    preprocess = {"fit": "shortest", "size": 96, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(LayoutError, match="timm cannot say fit: shortest"):
        FOLDER.write(card_of(preprocess), {"num_classes": 1000})


@pytest.mark.parametrize("change", [{"crop_mode": "corner"}, {"input_size": [3, 96, 64]}])
def test_other_fits_and_shapes_are_refused(change, tmp_path):
    with pytest.raises(LayoutError, match="the zoo makes squares"):
        FOLDER.read(tmp_path, {"pretrained_cfg": {**GIVEN, **change}})
