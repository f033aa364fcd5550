"""From images to what a net takes, by the card alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bestiary.core.record import record
from bestiary.errors import InputError, LayoutError
from bestiary.vision.images import read_image

LONGEST = 200  # sides: longer strips would take gigabytes on their way to a square


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The keys of a card's `preprocess` for images.

    The shorter side is resized to size / crop, a square of `size` is cut from the middle, and of every colour, as a share of
    its full value, `mean` is taken away and what is left divided by `std`. The numbers are those of torchvision and timm.
    """

    size: int  # side of the square that the net sees, in pixels
    crop: float  # that side over the shorter side of the resized image; above 0, at most 1
    interpolation: Literal["bilinear", "bicubic", "lanczos"]  # all three average over the area when they make smaller
    mean: tuple[float, float, float]  # red, green, blue
    std: tuple[float, float, float]

    @classmethod
    def of(cls, card: Any) -> Preprocess:
        """That of a card. Raises LayoutError, naming the key."""
        whose = f"preprocess of {card.name}"
        preprocess = record(cls, card.preprocess, whose)
        for key, fits in {
            "size": preprocess.size >= 1,
            "crop": 0 < preprocess.crop <= 1,
            "std": min(preprocess.std) > 0,
        }.items():
            if not fits:
                raise LayoutError(f"{whose} has {key}: {getattr(preprocess, key)}\nwanted: size >= 1, 0 < crop <= 1, std > 0")
        return preprocess

    def __call__(self, images: Iterable[Any], first: int = 0) -> Tensor:
        """fp32 (n, 3, size, size), laid out channels-last. What counts as an image, and what it raises: see `read_image`.

        `first` is the number of the first image, by which messages count those that have no name.
        """
        squares = [self.square(read_image(image, f"image {number}")) for number, image in enumerate(images, first)]
        if not squares:
            return torch.empty(0, 3, self.size, self.size)
        pixels = torch.from_numpy(np.stack([np.asarray(square) for square in squares]))  # (n, size, size, 3)
        x = pixels.permute(0, 3, 1, 2).float().div_(255)
        return x.sub_(_per_colour(self.mean)).div_(_per_colour(self.std))

    def square(self, image: Image.Image) -> Image.Image:
        """The part that the net sees, resized."""
        shorter, longer = sorted(image.size)
        if longer > LONGEST * shorter:
            raise InputError(
                f"an image of {image.width} × {image.height} pixels is too long and thin\ncut out what matters first"
            )
        resized = math.floor(self.size / self.crop)
        width, height = (resized if side == shorter else int(resized * side / shorter) for side in image.size)
        image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


def _per_colour(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)
