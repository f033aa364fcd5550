"""What training changes about images at random: of each image, of each batch, and the order they come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from torchvision.transforms import v2

from bestiary.errors import InputError
from bestiary.vision.images import read_pixels
from bestiary.vision.transforms import Preprocess

MAGNITUDES = 100  # steps from RandAugment's weakest to its strongest


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much is changed. The defaults are to cut a part out and to mirror it (Szegedy et al. 2014, arXiv:1409.4842).

    `PRESETS` has those of papers. Everything is drawn from torch's common random numbers, which a `DataLoader` seeds for each
    worker, or from a generator given in the call.

    >>> preprocess = Preprocess(size=32, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> change = Augmentation(mixup=0.2, smoothing=0.1).for_images(preprocess)
    >>> image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    >>> change(image, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 32, 32])
    """

    area: tuple[float, float] = (0.08, 1.0)  # share of the image that is cut out, least and most
    shape: tuple[float, float] = (3 / 4, 4 / 3)  # its width over its height, before it becomes a square
    mirrored: float = 0.5  # share of images
    layers: int = 0  # operations of RandAugment in turn (Cubuk et al. 2019, arXiv:1909.13719)
    magnitude: float = 9.0  # their strength, 0 to 10
    deviation: float = 0.0  # of the normal distribution that each strength is drawn from, about the magnitude
    applied: float = 1.0  # share of operations that are carried out
    jitter: float = 0.0  # brightness, contrast and saturation change by at most this factor, up and down
    erased: float = 0.0  # share of images of which a rectangle becomes noise (Zhong et al. 2017, arXiv:1708.04896)
    mixup: float = 0.0  # alpha of the share at which images are mixed; 0: never (Zhang et al. 2017, arXiv:1710.09412)
    cutmix: float = 0.0  # alpha of the area of one that is put into another; 0: never (Yun et al. 2019, arXiv:1905.04899)
    smoothing: float = 0.0  # share of a label that goes to all classes alike (Szegedy et al. 2015, arXiv:1512.00567)
    repeats: int = 1  # times that an image comes in a batch (Hoffer et al. 2019, arXiv:1901.09335)

    def __post_init__(self) -> None:
        shares = ("mirrored", "applied", "jitter", "erased", "smoothing")
        for name, fits in {
            "area": 0 < self.area[0] <= self.area[1] <= 1,
            "shape": 0 < self.shape[0] <= self.shape[1],
            "magnitude": 0 <= self.magnitude <= 10,
            **{name: 0 <= getattr(self, name) <= 1 for name in shares},
            **{name: getattr(self, name) >= 0 for name in ("layers", "deviation", "mixup", "cutmix")},
            "repeats": self.repeats >= 1,
        }.items():
            if not fits:
                raise InputError(f"{name}={getattr(self, name)!r} is out of range\nsee the fields of Augmentation")

    def for_images(self, preprocess: Preprocess) -> ImageAugmentation:
        """What is done to each image, for a net whose card prepares images so."""
        return ImageAugmentation(self, preprocess)

    def for_batches(self, num_classes: int) -> BatchAugmentation:
        """What is done to each batch, labels included, on whatever device it is."""
        return BatchAugmentation(self, num_classes)

    def order(self, count: int, seed: int = 0) -> RepeatedSampler:
        """The order in which so many images come."""
        return RepeatedSampler(count, repeats=self.repeats, seed=seed)


class ImageAugmentation:
    """An image, as `read_pixels` takes it, to what the net is trained on: fp32 (3, size, size), laid out channels-last.

    With a generator the result depends on that alone; it takes the common random numbers over for a while, and is for one thread.
    """

    def __init__(self, augmentation: Augmentation, preprocess: Preprocess):
        self.preprocess = preprocess
        # Of tensors, which are many times as fast as PIL images, torchvision has lanczos only since 0.27.
        how = v2.InterpolationMode("bicubic" if preprocess.interpolation == "lanczos" else preprocess.interpolation)
        fill = [round(255 * colour) for colour in preprocess.mean]
        jitter = augmentation.jitter
        self.cut = v2.RandomResizedCrop(preprocess.size, augmentation.area, augmentation.shape, how, antialias=True)
        self.mirror = v2.RandomHorizontalFlip(augmentation.mirrored)
        self.recolour = v2.ColorJitter(jitter, jitter, jitter) if jitter else v2.Identity()
        self.operate = Operations(augmentation, fill)
        self.erase = v2.RandomErasing(augmentation.erased, (0.02, 1 / 3), (0.3, 1 / 0.3), value="random")

    def __call__(self, image: Any, generator: torch.Generator | None = None) -> Tensor:
        pixels = read_pixels(image)
        with drawn_from(generator):
            pixels = self.mirror(self.cut(pixels))  # uint8 (3, size, size)
            pixels = self.operate(self.recolour(pixels))
            return self.erase(self.preprocess.normalize(pixels))  # noise of mean 0 and deviation 1, as the images have


class Operations:
    """RandAugment, with strengths that vary: uint8 (3, h, w) → the same shape."""

    def __init__(self, augmentation: Augmentation, fill: list[int]):
        self.augmentation = augmentation
        self.one = v2.RandAugment(1, num_magnitude_bins=MAGNITUDES + 1, interpolation=v2.InterpolationMode.BILINEAR, fill=fill)

    def __call__(self, pixels: Tensor) -> Tensor:
        asked = self.augmentation
        for _ in range(asked.layers):
            strength = asked.magnitude + asked.deviation * float(torch.randn(()))
            self.one.magnitude = round(min(max(strength, 0.0), 10.0) / 10 * MAGNITUDES)
            if torch.rand(()) < asked.applied:
                pixels = self.one(pixels)
        return pixels


class BatchAugmentation:
    """Images fp32 (n, 3, h, w) and the numbers of their classes (n,) → images, and the share of each class (n, num_classes).

    Every batch goes through mixup or CutMix, half of them each where both are asked for. It is shuffled before, so that images
    which come several times in a row are mixed with others.

    >>> images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
    >>> images, labels = Augmentation(mixup=0.8, cutmix=1.0).for_batches(num_classes=3)(images, labels)
    >>> labels.shape
    torch.Size([4, 3])
    """

    def __init__(self, augmentation: Augmentation, num_classes: int):
        if num_classes < 1:
            raise InputError(f"num_classes={num_classes} leaves nothing to tell apart\ngive 1 or more")
        self.num_classes = num_classes
        self.smoothing = augmentation.smoothing
        alphas = {v2.MixUp: augmentation.mixup, v2.CutMix: augmentation.cutmix}
        self.mixes = [mix(alpha=alpha, num_classes=num_classes) for mix, alpha in alphas.items() if alpha]

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        shares = torch.nn.functional.one_hot(labels, self.num_classes).to(images.dtype)
        if self.mixes:
            with drawn_from(generator):
                mix = self.mixes[int(torch.randint(len(self.mixes), ()))]
                order = torch.randperm(len(images)).to(images.device)
                images, shares = mix(images[order], shares[order])
        return images, shares * (1 - self.smoothing) + self.smoothing / self.num_classes


class RepeatedSampler(Sampler[int]):
    """The numbers of `count` images in random order, each `repeats` times in a row, and as many of them as there are images.

    An epoch is as long as without, and sees a different part of the images each time: those that come are changed in several
    ways within one batch. Every epoch has an order of its own, which seed and epoch alone determine; call `set_epoch` before
    each. For one process: several would each draw all of it.

    >>> list(RepeatedSampler(4, repeats=2, seed=0))
    [0, 0, 1, 1]
    """

    def __init__(self, count: int, *, repeats: int = 3, seed: int = 0):
        if repeats < 1:
            raise InputError(f"repeats={repeats} leaves nothing\ngive 1 or more")
        self.count, self.repeats, self.seed, self.epoch = count, repeats, seed, 0

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.count, generator=generator).repeat_interleave(self.repeats)
        return iter(order[: self.count].tolist())


@contextmanager
def drawn_from(generator: torch.Generator | None) -> Iterator[None]:
    """Lets torch's common random numbers on the CPU follow from a generator's next one; without one, leaves them as they are."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


# DeiT (Touvron et al. 2020, arXiv:2012.12877), and A1, A2, A3 of "ResNet strikes back" (Wightman et al. 2021, arXiv:2110.00476).
# Both trained with timm, which carries out half of the operations of RandAugment. A3 trains on images of 160 pixels.
_RAND_AUGMENT: Mapping[str, Any] = {"layers": 2, "deviation": 0.5, "applied": 0.5}
PRESETS: Mapping[str, Augmentation] = {
    "light": Augmentation(),
    "deit": Augmentation(**_RAND_AUGMENT, magnitude=9, erased=0.25, mixup=0.8, cutmix=1.0, smoothing=0.1, repeats=3),
    "a1": Augmentation(**_RAND_AUGMENT, magnitude=7, mixup=0.2, cutmix=1.0, smoothing=0.1, repeats=3),
    "a2": Augmentation(**_RAND_AUGMENT, magnitude=7, mixup=0.1, cutmix=1.0, repeats=3),
    "a3": Augmentation(**_RAND_AUGMENT, magnitude=6, mixup=0.1, cutmix=1.0),
}
