"""What training changes about sounds at random: their speed, their level, noise, and what of their features is heard at all."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torchaudio.functional import resample

from bestiary.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much is changed. The defaults are those of the papers named, with the masks of SpecAugment's policy LD.

    Everything is drawn from torch's common random numbers, or from a generator on the CPU that is given in the call.

    >>> change = Augmentation(speeds=(1.0,))
    >>> change.samples(torch.randn(2, 16_000), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 16000])
    >>> change.features(torch.randn(2, 80, 300), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 80, 300])
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)  # factors, all as likely (Ko et al. 2015, Interspeech)
    gain: float = 6.0  # decibels up or down at most
    noise: tuple[float, float] | None = (15.0, 40.0)  # decibels of the sound above white noise, least and most; None: no noise
    frequency_masks: int = 2  # runs of bands that are made the mean (SpecAugment, Park et al. 2019, arXiv:1904.08779)
    frequency_width: int = 27  # bands of one at most
    time_masks: int = 2  # runs of frames that are made the mean
    time_width: int = 100  # frames of one at most
    time_share: float = 1.0  # of all frames that one may take at most

    def __post_init__(self) -> None:
        for name, fits in {
            "speeds": self.speeds and all(0.5 <= speed <= 2 for speed in self.speeds),
            "gain": self.gain >= 0,
            "noise": self.noise is None or self.noise[0] <= self.noise[1],
            "time_share": 0 <= self.time_share <= 1,
            **{
                name: getattr(self, name) >= 0
                for name in ("frequency_masks", "frequency_width", "time_masks", "time_width")
            },
        }.items():
            if not fits:
                raise InputError(f"{name}={getattr(self, name)!r} is out of range\nsee the fields of Augmentation")

    def samples(self, samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sounds (..., n), each changed in its own way but all at one speed: (..., m), with m = n / speed."""
        speed = self.speeds[int(torch.randint(len(self.speeds), (), generator=generator))]
        if speed != 1:
            ratio = Fraction(speed).limit_denominator(100)
            samples = resample(samples, ratio.numerator, ratio.denominator)
        if self.noise is not None:
            samples = samples + self._noise(samples, *self.noise, generator)
        gain = self.gain * (2 * torch.rand(*samples.shape[:-1], 1, generator=generator) - 1)
        return samples * (10 ** (gain / 20)).to(samples)

    def features(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Features (..., bands, frames) with some bands and frames made the mean of each sound."""
        bands, frames = features.shape[-2:]
        shape, widest = features.shape[:-2], min(self.time_width, int(self.time_share * frames))
        hidden = torch.zeros(*shape, bands, frames, dtype=torch.bool)
        for _ in range(self.frequency_masks):
            hidden |= _run(shape, bands, min(self.frequency_width, bands), generator)[..., :, None]
        for _ in range(self.time_masks):
            hidden |= _run(shape, frames, widest, generator)[..., None, :]
        return torch.where(hidden.to(features.device), features.mean((-2, -1), keepdim=True), features)

    def _noise(self, samples: Tensor, least: float, most: float, generator: torch.Generator | None) -> Tensor:
        ratio = least + (most - least) * torch.rand(*samples.shape[:-1], 1, generator=generator)
        loudness = samples.square().mean(-1, keepdim=True).sqrt()
        return torch.randn(samples.shape, generator=generator).to(samples) * loudness * (10 ** (-ratio / 20)).to(samples)


def _run(shape: torch.Size, length: int, widest: int, generator: torch.Generator | None) -> Tensor:
    """For each sound a run of places: (*shape, length) of bool, between none and `widest` of them True."""
    width = torch.randint(widest + 1, (*shape, 1), generator=generator)
    start = (torch.rand(*shape, 1, generator=generator) * (length - width + 1)).long()
    places = torch.arange(length)
    return (places >= start) & (places < start + width)
