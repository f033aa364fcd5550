"""The preprocessing of images as operations on tensors, for graphs that take images of any size.

Images are resized as Pillow does it, by the same weights: those of each row and of each column are worked out from the sizes, as
matrices that what is seen of an image is the product of. Rounding to whole numbers between the two passes is theirs too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bestiary.errors import InputError
from bestiary.vision.fits import Sizes
from bestiary.vision.transforms import Preprocess


class Kernel(NamedTuple):
    """How much a pixel counts by its distance, in pixels of the smaller of two images."""

    weight: Callable[[Tensor], Tensor]
    reach: float  # distance from which on it counts nothing


def bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def bicubic(x: Tensor) -> Tensor:
    """Keys 1981, with a = -0.5."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, _sinc(x) * _sinc(x / 3), torch.zeros_like(x))


def _sinc(x: Tensor) -> Tensor:
    angle = math.pi * torch.where(x == 0, torch.ones_like(x), x)
    return torch.where(x == 0, torch.ones_like(x), angle.sin() / angle)


KERNELS: Mapping[str, Kernel] = {
    "bilinear": Kernel(bilinear, 1),
    "bicubic": Kernel(bicubic, 2),
    "lanczos": Kernel(lanczos, 3),
}


class Side(NamedTuple):
    """What becomes of a side of an image, as a `Placement` says it: scalars, fp64."""

    original: Tensor
    resized: Tensor
    corner: Tensor  # where it begins in what is seen; below 0 where it is cut


Sides = tuple[Tensor, Tensor]  # height and width


def crop(height: Tensor, width: Tensor, sizes: Sizes) -> Sides:
    scaled = torch.full_like(height, sizes.scaled)
    return (
        torch.where(height <= width, scaled, (scaled * height / width).floor()),
        torch.where(height <= width, (scaled * width / height).floor(), scaled),
    )


def squash(height: Tensor, width: Tensor, sizes: Sizes) -> Sides:
    scaled = torch.full_like(height, sizes.scaled)
    return scaled, scaled


def pad(height: Tensor, width: Tensor, sizes: Sizes) -> Sides:
    ratio = torch.maximum(height, width) / sizes.scaled
    return (height / ratio).round().clamp(min=1), (width / ratio).round().clamp(min=1)


# To what an image is resized, and what makes a whole number of half the pixels that are cut: FITS, as operations.
GRAPH_FITS: Mapping[str, tuple[Callable[[Tensor, Tensor, Sizes], Sides], Callable[[Tensor], Tensor]]] = {
    "crop": (crop, torch.round),
    "crop_floor": (crop, torch.floor),
    "squash": (squash, torch.round),
    "pad": (pad, torch.round),
}


def placed(height: Tensor, width: Tensor, sizes: Sizes) -> list[Side]:
    """What becomes of height and width, scalars of fp64, by the `fit`."""
    fit, middle = GRAPH_FITS[sizes.fit]
    found = []
    for side, resized in zip((height, width), fit(height, width, sizes), strict=True):
        before, cut = ((sizes.size - resized) / 2).floor(), middle((resized - sizes.size) / 2)
        found.append(Side(side, resized, torch.where(resized < sizes.size, before, -cut)))
    return found


def weights(side: Side, length: int, size: int, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """How much each of `length` pixels of a side counts for each of the `size` that are seen, and which of those show any."""
    place = torch.arange(size, dtype=torch.float64, device=side.corner.device) - side.corner  # in the resized image
    inside = (place >= 0) & (place < side.resized)
    scale = side.original / side.resized
    stretch = scale.clamp(min=1)  # to average over the area where the image gets smaller
    middle = (place + 0.5)[:, None] * scale  # (size, 1), in pixels of the image
    pixel = torch.arange(length, dtype=torch.float64, device=place.device)
    first = (middle - kernel.reach * stretch + 0.5).floor()
    last = (middle + kernel.reach * stretch + 0.5).floor()
    counted = (pixel >= first) & (pixel < last) & inside[:, None]
    weight = torch.where(counted, kernel.weight((pixel - middle + 0.5) / stretch), torch.zeros_like(middle))
    total = weight.sum(1, keepdim=True)
    return (weight / torch.where(inside[:, None], total, torch.ones_like(total))).float(), inside


class Preparation(nn.Module):
    """uint8 (n, h, w, 3), images of any size → fp32 (n, 3, size, size), what `Preprocess` makes of them but for roundings.

    Raises InputError for a `fit` that makes no square.
    """

    fill: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        if preprocess.fit not in GRAPH_FITS:
            raise InputError(
                f"fit {preprocess.fit!r} gives images sizes of their own, which a graph cannot\nexport it without preprocessing"
            )
        self.preprocess = preprocess
        self.kernel = KERNELS[preprocess.interpolation]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
        self.register_buffer("fill", torch.tensor(preprocess.around, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> Tensor:
        size, (height, width) = self.preprocess.size, images.shape[1:3]
        sides = [torch.full((), side, dtype=torch.float64, device=images.device) for side in (height, width)]
        of_rows, of_columns = placed(sides[0], sides[1], self.preprocess)
        rows, inside_rows = weights(of_rows, height, size, self.kernel)
        columns, inside_columns = weights(of_columns, width, size, self.kernel)
        x = images.permute(0, 3, 1, 2).float()  # (n, 3, h, w)
        x = whole(x @ columns.T)  # (n, 3, h, size)
        x = whole(rows @ x)  # (n, 3, size, size)
        x = torch.where(inside_rows[:, None] & inside_columns, x, self.fill)
        return x * self.scale + self.shift


def whole(x: Tensor) -> Tensor:
    """Rounded as integers are, halves upwards, to what 8 bits hold."""
    return (x + 0.5).floor().clamp(0, 255)
