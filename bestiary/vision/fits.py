"""Ways to fit an image into what a net sees, as a card's `preprocess` names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The keys of a card's `preprocess` that say how large an image becomes. All lengths are in pixels."""

    size: int  # what the fit makes of it: a square's side, or that of the side it goes by
    fit: Literal["crop", "crop_floor", "squash", "pad", "shortest", "multiple"] = "crop"  # a key of FITS
    crop: float = 1.0  # of crop, squash and pad: the square's side over what is resized to; above 0, at most 1
    longest: int | None = None  # of shortest: what the longer side may have at most; None: anything
    multiple: int = 1  # of multiple: what both sides are multiples of

    @property
    def scaled(self) -> int:
        """What a side is resized to, for a square of `size` to be the share `crop` of it."""
        return math.floor(self.size / self.crop)


class Placement(NamedTuple):
    """Where an image comes to lie in what a net sees; each a pair of height and width, in pixels.

    The pixel (row, column) of what the net sees shows (row - corner[0]) · original[0] / resized[0] of the image's rows, and
    likewise of its columns.
    """

    original: tuple[int, int]  # the image
    resized: tuple[int, int]  # the image, resized
    corner: tuple[int, int]  # row and column of its first pixel; below 0 where the image is cut
    canvas: tuple[int, int]  # what the net sees

    def lay(self, resized: Tensor, fill: tuple[int, ...]) -> Tensor:
        """What the net sees: resized pixels (colours, h, w) cut, and surrounded by a colour, as this says."""
        cut = [max(-start, 0) for start in self.corner]
        seen = resized[:, cut[0] : cut[0] + self.canvas[0], cut[1] : cut[1] + self.canvas[1]]
        if seen.shape[1:] == self.canvas:
            return seen
        canvas = torch.tensor(fill, dtype=resized.dtype).expand(*self.canvas, -1).contiguous().permute(2, 0, 1)
        top, left = (max(start, 0) for start in self.corner)
        canvas[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
        return canvas


def crop(height: int, width: int, sizes: Sizes) -> Placement:
    """The shorter side to size / crop, then the square in the middle, as torchvision and timm cut it."""
    return _square((height, width), _shorter_to(height, width, sizes.scaled), sizes.size, round)


def crop_floor(height: int, width: int, sizes: Sizes) -> Placement:
    """The same as transformers cuts it: a pixel further up or left where as many cannot go on either side."""
    return _square((height, width), _shorter_to(height, width, sizes.scaled), sizes.size, math.floor)


def squash(height: int, width: int, sizes: Sizes) -> Placement:
    """Both sides to size / crop, whatever they were, then the square in the middle."""
    return _square((height, width), (sizes.scaled, sizes.scaled), sizes.size, round)


def pad(height: int, width: int, sizes: Sizes) -> Placement:
    """The longer side to size / crop, then the square in the middle, filled where there is no image: timm's "border"."""
    ratio = max(height, width) / sizes.scaled
    return _square((height, width), (max(1, round(height / ratio)), max(1, round(width / ratio))), sizes.size, round)


def shortest(height: int, width: int, sizes: Sizes) -> Placement:
    """The shorter side to size, or less so that the longer has at most `longest`: that of DETR (arXiv:2005.12872)."""
    shorter, longer = sorted((height, width))
    size: float = sizes.size
    if sizes.longest is not None and longer / shorter * size > sizes.longest:
        size = sizes.longest * shorter / longer
    if round(size) == shorter:
        return _whole((height, width), (height, width))
    sides = (max(1, round(size)) if side == shorter else int(size * side / shorter) for side in (height, width))
    return _whole((height, width), tuple(sides))


def multiple(height: int, width: int, sizes: Sizes) -> Placement:
    """The side that is nearer to size, to it, the other along with it, and both to the nearest multiples: that of DPT.

    Ranftl et al. 2021 (arXiv:2103.13413); Depth Anything (arXiv:2401.10891) takes multiples of a patch.
    """
    scale = min(sizes.size / height, sizes.size / width, key=lambda scale: abs(1 - scale))
    sides = (max(1, round(scale * side / sizes.multiple)) * sizes.multiple for side in (height, width))
    return _whole((height, width), tuple(sides))


# Where an image (height, width) comes to lie.
FITS: Mapping[str, Callable[[int, int, Sizes], Placement]] = {
    "crop": crop,
    "crop_floor": crop_floor,
    "squash": squash,
    "pad": pad,
    "shortest": shortest,
    "multiple": multiple,
}
SQUARES = ("crop", "crop_floor", "squash", "pad")  # those that make a square of `size` of every image


def _shorter_to(height: int, width: int, size: int) -> tuple[int, int]:
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def _square(original: tuple[int, int], resized: tuple[int, int], size: int, middle: Callable[[float], int]) -> Placement:
    """The square in the middle, of an image that is larger or smaller than that along either side."""
    height, width = ((size - side) // 2 if side < size else -middle((side - size) / 2) for side in resized)
    return Placement(original, resized, (height, width), (size, size))


def _whole(original: tuple[int, int], resized: Any) -> Placement:
    return Placement(original, resized, (0, 0), resized)
