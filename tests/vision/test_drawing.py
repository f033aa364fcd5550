"""Pictures of results: what lies where, at any size."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.core.labels import Label
from bestiary.errors import InputError
from bestiary.vision import drawing
from bestiary.vision.drawing import PALETTE, colour, draw_boxes, draw_depth, draw_labels, draw_masks, heat_map
from bestiary.vision.tasks.classification import Labels

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
SIZES = [(1, 1), (24, 24), (20, 300), (300, 20), (451, 300), (3000, 2000)]
GREY = (90, 90, 90)
LONG = "a name that is far too long for any picture of a reasonable width to hold in one line of letters" * 3


def plain(size=(451, 300)):
    return Image.new("RGB", size, GREY)


def pixels(picture):
    return np.asarray(picture).astype(int)


def is_changed(picture, original):
    """(h, w), where a picture differs from the image, enlarged as it was."""
    enlarged = original.resize(picture.size, Image.Resampling.NEAREST)
    return (pixels(picture) != pixels(enlarged)).any(2)


def test_labels_stand_below_the_image_and_their_bars_are_as_long_as_their_scores():
    picture = draw_labels(PHOTO, [Label("tabby", 1.0), Label("lynx", 0.5), Label("", 0.0)])
    assert np.array_equal(pixels(picture)[:300], pixels(Image.open(PHOTO)))
    height = (picture.height - 300) // 3
    bars = (pixels(picture)[300:] == PALETTE[1]).all(2)
    longest = [bars[row * height : (row + 1) * height].any(0).nonzero()[0].max(initial=0) for row in range(3)]
    assert longest[0] == 450 and longest[1] == pytest.approx(225, abs=2) and longest[2] <= 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_letters_can_be_read_at_any_size(size):
    """A line of text takes a reasonable share of the picture, never fewer than 12 pixels where there is room for them."""
    picture = draw_labels(plain(size), [Label("tabby", 0.0)])
    band = pixels(picture)[-(2 * drawing._letters(picture)) :]
    dark = (band.max(2) < 100).any(1).nonzero()[0]
    assert picture.width >= min(256, 4096 // size[1] * size[0])
    assert dark.max() - dark.min() >= 8 and dark.max() - dark.min() < picture.height / 2


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("text", ["cat", LONG], ids=["short", "long"])
def test_boxes_and_captions_are_not_cut(size, text):
    """A box along the border and one far beyond it: all four sides and a whole caption lie within the picture."""
    width, height = size
    for box in ([0, 0, width, height], [-50, -50, width + 50, height + 50], [width - 1, height - 1, width + 9, height + 9]):
        picture = draw_boxes(plain(size), [box], [Label(text, 0.98)])
        changed = is_changed(picture, plain(size))
        factor = picture.width // width
        assert picture.size == (factor * width, factor * height)
        if box[0] <= 0:
            assert changed[0].all() and changed[-1].all() and changed[:, 0].all() and changed[:, -1].all()
        else:
            assert changed[-1, -1]


def test_a_caption_moves_into_the_picture_but_not_off_its_box():
    """Above the box where there is room, else inside; to the left where it would reach over the border."""
    where = {}
    for name, box in {"free": [50, 100, 90, 150], "at the top": [50, 0, 90, 50], "at the right": [440, 100, 450, 150]}.items():
        picture = draw_boxes(plain(), torch.tensor([box]).float(), [Label("cat", 0.98)])
        filled = (pixels(picture) == PALETTE[0]).all(2)
        rows, columns = filled.nonzero()
        where[name] = rows.min(), columns.min(), columns.max()
    assert where["free"][0] < 90 and where["free"][1] == 50
    assert where["at the top"][0] == 0
    assert where["at the right"][1] < 430 and where["at the right"][2] == 450


def test_boxes_of_one_name_share_a_colour_and_the_first_lies_on_top():
    boxes = [[50, 50, 150, 150], [200, 50, 300, 150], [50, 50, 150, 150]]
    picture = pixels(draw_boxes(plain(), boxes, ["cat", "dog", "dog"]))
    assert tuple(picture[149, 100]) == PALETTE[0]
    assert tuple(picture[149, 250]) == PALETTE[1]
    picture = pixels(draw_boxes(plain(), boxes[:2], ["cat", Label("cat", 0.5)]))
    assert tuple(picture[149, 100]) == tuple(picture[149, 250]) == PALETTE[0]


def test_no_boxes_leave_the_image_as_it_is_and_too_few_labels_are_refused():
    assert np.array_equal(pixels(draw_boxes(PHOTO, torch.empty(0, 4), [])), pixels(Image.open(PHOTO)))
    with pytest.raises(InputError, match="1 labels for 2 boxes"):
        draw_boxes(PHOTO, [[0, 0, 1, 1]] * 2, ["cat"])


def test_masks_tint_their_pixels_and_say_what_they_are():
    mask = torch.full((300, 451), 255)
    mask[:150, :200], mask[150:, :] = 2, 0
    picture = draw_masks(plain(), mask, ["sky", "grass", "cat"])
    shown = pixels(picture)
    tint = [tuple(np.round(0.4 * np.array(GREY) + 0.6 * np.array(colour(place))).astype(int)) for place in range(2)]
    assert (shown[150:300] == tint[0]).all() and (shown[:150, :200] == tint[1]).all()
    assert (shown[:150, 200:] == GREY).all()
    height = (picture.height - 300) // 2
    assert picture.height - 300 == 2 * height  # two classes are there, the larger comes first
    assert tuple(shown[300 + 1, 0]) == colour(0) and tuple(shown[300 + height + 1, 0]) == colour(1)
    assert np.array_equal(pixels(draw_masks(PHOTO, np.full((3, 4), -1), ["sky"])), pixels(Image.open(PHOTO)))


def test_depth_lies_beside_the_image_from_dark_to_bright():
    depth = np.tile(np.linspace(3.0, 80.0, 451), (300, 1))
    depth[:10, :10] = np.nan
    picture = draw_depth(PHOTO, depth)
    assert picture.size == (902, 300) and np.array_equal(pixels(picture)[:, :451], pixels(Image.open(PHOTO)))
    brightness = pixels(picture.convert("L"))[150, 451:]
    assert (np.diff(brightness) >= -1).all() and brightness[-1] - brightness[0] > 150
    assert tuple(pixels(picture)[2, 453]) == (0, 0, 0)
    assert np.isfinite(pixels(draw_depth(PHOTO, torch.full((30, 40), 2.0)))).all()


def test_heat_colours_what_is_hot_and_leaves_the_rest_grey():
    values = torch.zeros(300, 451)
    values[100:200, 100:200] = 1
    shown = pixels(heat_map(PHOTO, values))
    spread = shown.max(2) - shown.min(2)
    assert shown.shape == (300, 451, 3) and spread[:90].max() == 0 and spread[110:190, 110:190].min() > 100
    assert heat_map(PHOTO, values[::10, ::10]).size == (451, 300)


def test_colours_are_distinct_also_for_those_who_confuse_red_and_green():
    """As the matrices of Viénot et al. 1999 show a protanope and a deuteranope the colours of one round."""
    matrices = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    linear = (np.array(PALETTE) / 255) ** 2.2
    for matrix in matrices.values():
        seen = 255 * (linear @ np.array(matrix).T).clip(0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 999 * np.eye(len(seen))
        assert distances.min() > 25
    assert len({colour(index) for index in range(21)}) == 21 and colour(21) == colour(0)


@pytest.mark.parametrize("image", [np.zeros((30, 40, 3), np.uint8), torch.zeros(3, 30, 40), PHOTO.read_bytes(), str(PHOTO)])
def test_whatever_holds_an_image_is_drawn_on_and_left_alone(image):
    before = copy.deepcopy(image)
    picture = Labels([Label("cat", 0.9)], image).plot()
    assert picture.width >= 256
    draw_boxes(image, [[0, 0, 20, 20]], ["cat"])
    assert np.array_equal(before, image)


def test_a_pil_image_is_not_written_on():
    image = plain()
    draw_boxes(image, [[0, 0, 20, 20]], ["cat"])
    draw_labels(image, [Label("cat", 1.0)])
    assert np.array_equal(pixels(image), pixels(plain()))


def test_labels_are_a_list_that_draws_itself():
    classify = bestiary.load("efficientnet-lite0", device="cpu")
    found = classify([PHOTO, Image.open(PHOTO)], top=3)
    assert all(isinstance(labels, list) and isinstance(labels, Labels) and len(labels) == 3 for labels in found)
    assert found[0].image == PHOTO and found[0] == list(found[0])
    assert np.array_equal(pixels(found[0].plot()), pixels(found[1].plot()))
    with pytest.warns(UserWarning, match="skipped"):
        kept = classify([b"no image", PHOTO], errors="skip")
    assert kept[0] is None and kept[1].image == PHOTO  # as it was given, not the pixels that were read of it
