"""Results drawn on the images that they are about.

Colours are those of Okabe and Ito (2008, "Color Universal Design") and of viridis (van der Walt and Smith 2015), which
colour-blind people tell apart; letters and lines grow with the picture, and a picture too small for letters is enlarged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bestiary.core.labels import Label
from bestiary.errors import InputError
from bestiary.vision.images import read_image

Colour = tuple[int, int, int]

PALETTE: Sequence[Colour] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
VIRIDIS = np.array([
    (68, 1, 84), (72, 40, 120), (62, 73, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (110, 206, 88), (181, 222, 43), (253, 231, 37),
])  # fmt: skip
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
NARROWEST, HIGHEST = 256, 4096  # pixels: a picture is enlarged to that width, as long as it is not made higher than that


class Row(NamedTuple):
    """A line below a picture: a text, a share, and the colour of its bar."""

    text: str
    share: float  # 0 to 1
    colour: Colour


def draw_labels(image: Any, labels: Iterable[Label]) -> Image.Image:
    """The image, and below it each label with its score as a bar.

    >>> picture = draw_labels(Image.new("RGB", (300, 200)), [Label("tabby", 0.7), Label("tiger cat", 0.2)])
    >>> picture.width, picture.height > 200
    (300, True)
    """
    return _with_rows(_enlarged(image), [Row(label.name, label.score, PALETTE[1]) for label in labels])


def draw_boxes(image: Any, boxes: Any, labels: Sequence[Label | str]) -> Image.Image:
    """The image with boxes (n, 4) of left, top, right, bottom in its pixels, and a caption at each.

    Boxes of one name share a colour. What reaches over the border is drawn along it, and a caption lies within the picture.
    Where several overlap, the first lies on top. Raises InputError for other than one label a box.
    """
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    if len(boxes) != len(labels):
        raise InputError(f"there are {len(labels)} labels for {len(boxes)} boxes\ngive a label for each")
    original, picture = read_image(image), _enlarged(image)
    boxes = boxes * (picture.width / original.width)
    draw, size = ImageDraw.Draw(picture), _letters(picture)
    names = [label if isinstance(label, str) else label.name for label in labels]
    colours = {name: colour(place) for place, name in enumerate(dict.fromkeys(names))}
    corners = [_inside(box, picture) for box in boxes]
    for name, place in reversed(list(zip(names, corners, strict=True))):
        draw.rectangle(place, outline=colours[name], width=_line(size))
    for label, name, (left, top, _, _) in reversed(list(zip(labels, names, corners, strict=True))):
        text = label if isinstance(label, str) else f"{label.name} {label.score:.0%}"
        _caption(draw, picture, (left, top), text, colours[name])
    return picture


def draw_masks(image: Any, mask: Any, names: Sequence[str]) -> Image.Image:
    """The image with each pixel tinted by its class in `mask` (h, w), an index into `names`; below it the classes and shares.

    A mask of another size than the image is stretched to it. What is no index into `names`, such as 255, is left as it is.
    """
    picture = _enlarged(image)
    classes = _stretched(np.asarray(mask).astype(np.int32), picture.size, Image.Resampling.NEAREST)
    pixels, rows = np.asarray(picture).astype(float), []
    for place, index in enumerate(index for index in np.unique(classes) if 0 <= index < len(names)):
        here = classes == index
        pixels[here] = 0.4 * pixels[here] + 0.6 * np.array(colour(place))
        rows.append(Row(names[index], float(here.mean()), colour(place)))
    return _with_rows(_as_picture(pixels), sorted(rows, key=lambda row: -row.share))


def draw_depth(image: Any, depth: Any) -> Image.Image:
    """The image, and beside it depth (h, w), whatever its unit, from dark for least to bright for most; black is no number."""
    picture = _enlarged(image)
    values = _stretched(_scaled(np.asarray(depth, dtype=np.float32)), picture.size, Image.Resampling.BILINEAR)
    both = Image.new("RGB", (2 * picture.width, picture.height))
    both.paste(picture, (0, 0))
    both.paste(_as_picture(_painted(values)), (picture.width, 0))
    return both


def heat_map(image: Any, values: Any) -> Image.Image:
    """The image in grey, coloured where `values` (h, w), from 0 to 1, are high; stretched to the image from any other size."""
    picture = _enlarged(image).convert("L").convert("RGB")
    heat = _stretched(np.asarray(values, dtype=np.float32).clip(0, 1), picture.size, Image.Resampling.BILINEAR)
    opacity = 0.8 * heat[:, :, None]
    return _as_picture((1 - opacity) * np.asarray(picture) + opacity * _painted(heat))


def colour(index: int) -> Colour:
    """The colour of that number: those of the palette, then the same lighter, then darker, then from the beginning."""
    mixed, share = ((WHITE, 0.0), (WHITE, 0.5), (BLACK, 0.4))[index // len(PALETTE) % 3]
    red, green, blue = (
        round((1 - share) * own + share * other) for own, other in zip(PALETTE[index % len(PALETTE)], mixed, strict=True)
    )
    return red, green, blue


def _enlarged(image: Any) -> Image.Image:
    """A copy of the image on which letters can be read."""
    picture = read_image(image)
    factor = max(1, min(ceil(NARROWEST / picture.width), HIGHEST // picture.height))
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _letters(picture: Image.Image) -> int:
    """Height of letters that can be read when the whole picture is looked at, in pixels."""
    return max(12, round(0.035 * sqrt(picture.width * picture.height)))


def _line(letters: int) -> int:
    return max(2, letters // 7)


def _with_rows(picture: Image.Image, rows: Sequence[Row]) -> Image.Image:
    """The picture on a white sheet with these rows below."""
    size = _letters(picture)
    margin, step = size // 2, 2 * size
    sheet = Image.new("RGB", (picture.width, picture.height + step * len(rows)), WHITE)
    sheet.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    for top, row in zip(count(picture.height, step), rows):
        middle, right = top + step // 2, picture.width - margin
        draw.rectangle((0, top, round(row.share * picture.width), top + step - _line(size)), fill=row.colour)
        number = f"{row.share:.1%}"
        text = _shortened(row.text, font, right - 2 * margin - font.getlength(number))
        for place, anchor, words in ((right, "rm", number), (margin, "lm", text)):
            draw.text((place, middle), words, BLACK, font, anchor, stroke_width=_line(size) // 2, stroke_fill=WHITE)
    return sheet


def _caption(draw: ImageDraw.ImageDraw, picture: Image.Image, corner: tuple[int, int], text: str, fill: Colour) -> None:
    """A text on a ground of that colour, above the corner where there is room, else below it."""
    size = _letters(picture)
    font, margin = ImageFont.load_default(size), size // 4
    text = _shortened(text, font, picture.width - 2 * margin)
    width, height = ceil(font.getlength(text)) + 2 * margin, size + 2 * margin
    left = max(0, min(corner[0], picture.width - width))
    top = corner[1] - height if corner[1] >= height else max(0, min(corner[1], picture.height - height))
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=fill)
    draw.text((left + margin, top + height // 2), text, _legible_on(fill), font, anchor="lm")


def _shortened(text: str, font: Any, width: float) -> str:
    """The text, or as much of it as is not wider than this, with dots at the end."""
    if font.getlength(text) <= width:
        return text
    kept = next((end for end in range(len(text), 0, -1) if font.getlength(text[:end] + "...") <= width), 0)
    return text[:kept] + "..." if kept else ""


def _legible_on(ground: Colour) -> Colour:
    red, green, blue = ground
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else WHITE


def _inside(box: np.ndarray, picture: Image.Image) -> tuple[int, int, int, int]:
    """The corners of a box, moved to the border of the picture where they lie beyond it."""
    left, right = (round(x) for x in box[[0, 2]].clip(0, picture.width - 1))
    top, bottom = (round(y) for y in box[[1, 3]].clip(0, picture.height - 1))
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _scaled(values: np.ndarray) -> np.ndarray:
    """The least becomes 0 and the most 1; what is no number stays none."""
    known = values[np.isfinite(values)]
    least, most = (known.min(), known.max()) if known.size else (0.0, 0.0)
    return np.where(np.isfinite(values), (values - least) / max(most - least, 1e-12), np.nan).astype(np.float32)


def _stretched(values: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """Values (h, w) for a picture of this width and height."""
    return np.asarray(Image.fromarray(values).resize(size, resampling))


def _painted(values: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) of values from 0 to 1."""
    places = np.linspace(0, 1, len(VIRIDIS))
    colours = np.stack([np.interp(values, places, channel) for channel in VIRIDIS.T], axis=-1)
    return np.where(np.isfinite(values)[:, :, None], colours, 0.0)


def _as_picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.round().astype(np.uint8))
