"""From images to what a net takes, by the card alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bestiary.core.record import record
from bestiary.core.runtime import in_threads
from bestiary.errors import InputError, LayoutError
from bestiary.hub.inputs import name_of
from bestiary.vision.fits import FITS, SQUARES, Placement, Sizes
from bestiary.vision.images import read_pixels

LONGEST = 200  # sides: longer strips would take gigabytes on their way to a square
LARGEST = 8192  # pixels of a side: of larger ones a single image would take gigabytes


@dataclass(frozen=True, kw_only=True)
class Preprocess(Sizes):
    """The keys of a card's `preprocess` for images.

    An image is resized and cut or filled up as `fit` says, and of every colour, as a share of its full value, `mean` is taken
    away and what is left divided by `std`. Resized by Pillow, the numbers are those of timm; by torch, those of transformers'
    processors, in a sixth of the time. The two round differently here and there: by 1/255, and by 2/255 in a few of a million
    values of a photo. So a card says which of them its net was published with.

    >>> preprocess = Preprocess(size=32, fit="pad", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> preprocess([np.zeros((300, 400, 3), np.uint8)]).shape
    torch.Size([1, 3, 32, 32])
    >>> preprocess.seen(np.zeros((300, 400, 3), np.uint8))[1]
    Placement(original=(300, 400), resized=(24, 32), corner=(4, 0), canvas=(32, 32))
    """

    interpolation: Literal["bilinear", "bicubic", "lanczos"]  # all three average over the area when they make smaller
    resampler: Literal["pillow", "torch"] = "pillow"  # what resizes, a key of RESAMPLERS; torch has no lanczos
    mean: tuple[float, float, float]  # red, green, blue
    std: tuple[float, float, float]
    fill: tuple[int, int, int] | None = None  # the colour around an image, 0 to 255; None: that of `mean`

    @classmethod
    def of(cls, card: Any, besides: Collection[str] = ()) -> Preprocess:
        """That of a card, whose task has the keys `besides` for itself. Raises LayoutError, naming the key."""
        whose = f"preprocess of {card.name}"
        preprocess = record(cls, {key: value for key, value in card.preprocess.items() if key not in besides}, whose)
        for key, fits in {
            "size": 1 <= preprocess.size <= LARGEST,
            "crop": 0 < preprocess.crop <= 1,
            "longest": preprocess.longest is None or preprocess.size <= preprocess.longest <= LARGEST,
            "multiple": 1 <= preprocess.multiple <= LARGEST,
            "resampler": (preprocess.resampler, preprocess.interpolation) != ("torch", "lanczos"),
            "std": min(preprocess.std) > 0,
            "fill": preprocess.fill is None or (min(preprocess.fill) >= 0 and max(preprocess.fill) <= 255),
        }.items():
            if not fits:
                raise LayoutError(
                    f"{whose} has {key}: {getattr(preprocess, key)}\n"
                    f"wanted: size and multiple >= 1, longest >= size, all of these <= {LARGEST}, 0 < crop <= 1, std > 0, "
                    "fill from 0 to 255, and pillow for lanczos"
                )
        return preprocess

    def __call__(self, images: Iterable[Any], first: int = 0) -> Tensor:
        """fp32 (n, 3, size, size), laid out channels-last. What counts as an image, and what it raises: see `read_image`.

        Images are read side by side, by as many threads as torch has. `first` is the number of the first, by which messages
        count those that have no name. Raises InputError for a `fit` that gives each image a size of its own; see `seen`.
        """
        if self.fit not in SQUARES:
            raise InputError(f"fit {self.fit!r} gives images sizes of their own, which are no one batch\nprepare each for itself")
        numbered = list(enumerate(images, first))
        batch = torch.empty(len(numbered), self.size, self.size, 3).permute(0, 3, 1, 2)

        def prepare(item: tuple[tuple[int, Any], Tensor]) -> None:
            (number, image), out = item
            self.normalize(self.seen(image, f"image {number}")[0], out)

        in_threads(prepare, list(zip(numbered, batch, strict=True)))
        return batch

    def seen(self, image: Any, name: str = "the image") -> tuple[Tensor, Placement]:
        """What the net sees of an image, uint8 (3, h, w), and where that lies in the image."""
        pixels = read_pixels(image, name)
        height, width = pixels.shape[1:]
        check_sides(width, height, name_of(image, name))
        place = FITS[self.fit](height, width, self)
        return place.lay(self.resize(pixels, place.resized), self.around), place

    @property
    def around(self) -> tuple[int, ...]:
        """The colour around an image: 0 to 255, red, green, blue."""
        return self.fill or tuple(round(255 * colour) for colour in self.mean)

    def resize(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 (3, h, w) → (3, *size), averaged over the area where it gets smaller."""
        return pixels if pixels.shape[1:] == size else RESAMPLERS[self.resampler](pixels, size, self.interpolation)

    def normalize(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """uint8 (…, 3, h, w) → fp32 of the same shape, laid out channels-last, as `out` has to be if it is given."""
        if out is None:
            out = torch.empty(images.movedim(-3, -1).shape, device=images.device).movedim(-1, -3)
        # Whole rows (…, h, w · 3), as vector instructions want more at a time than three colours.
        rows = out.movedim(-3, -1).view(*out.shape[:-3], out.shape[-2], -1)
        mean, std = (torch.tensor(values, device=images.device) for values in (self.mean, self.std))
        scale, shift = (values.repeat(images.shape[-1]) for values in (1 / (255 * std), -mean / std))
        torch.addcmul(shift, rows.copy_(images.movedim(-3, -1).flatten(-2)), scale, out=rows)
        return out


def check_sides(width: int, height: int, name: str) -> None:
    """Raise InputError, by the name of the image, for sides that are too unlike."""
    if max(width, height) > LONGEST * min(width, height):
        raise InputError(f"{name} of {width} × {height} pixels is too long and thin\ncut out what matters first")


def by_pillow(pixels: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Rows first, then columns, as Pillow did whenever weights were trained; from 13 on it chooses the order by the sizes."""
    image, how = Image.fromarray(pixels.permute(1, 2, 0).numpy()), Image.Resampling[interpolation.upper()]
    for width, height in ((size[1], image.height), (size[1], size[0])):
        image = image.resize((width, height), how)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def by_torch(pixels: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Vector instructions take a sixth of Pillow's time where colours lie side by side."""
    images = pixels[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(images, size, mode=interpolation, antialias=True)[0]


RESAMPLERS: Mapping[str, Callable[[Tensor, tuple[int, int], str], Tensor]] = {"pillow": by_pillow, "torch": by_torch}
