"""From samples to what nets of sound take, exactly as they were trained with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.compliance import kaldi

from bestiary.errors import InputError

RATE = 16_000  # Hz, of all that these transforms take
HOP = 160  # samples from one frame of Whisper's to the next
WINDOW = 400  # samples of a frame, 25 ms


@dataclass(frozen=True)
class LogMel:
    """Whisper's features (Radford et al. 2022, arXiv:2212.04356, section 2.2): samples (..., n) → (..., mels, n // 160).

    The logarithm of the energy in each of `mels` bands of frequency, no more than 80 dB below the largest of the sound, moved
    and scaled to about -1 to 1.

    >>> LogMel(mels=80)(torch.zeros(2, 16_000)).shape
    torch.Size([2, 80, 100])
    """

    mels: int = 80

    def __call__(self, samples: Tensor) -> Tensor:
        window, filters = _hann(samples.device), _mel_filters(self.mels, samples.device)
        spectrum = torch.stft(samples, WINDOW, HOP, window=window, return_complex=True)  # (..., 201, n // 160 + 1)
        energies = filters @ spectrum[..., :-1].abs().square()  # (..., mels, n // 160)
        levels = energies.clamp(min=1e-10).log10()
        return (torch.maximum(levels, levels.amax((-2, -1), keepdim=True) - 8) + 4) / 4


@dataclass(frozen=True, kw_only=True)
class Filterbank:
    """The features of the Audio Spectrogram Transformer (Gong et al. 2021, arXiv:2104.01778): samples (n,) → (frames, mels).

    The logarithm of the energy in bands of frequency as Kaldi computes it, cut or filled up with zeros to so many frames of
    10 ms, less `mean`, over twice `std`. Raises InputError for less than a frame.

    >>> Filterbank()(torch.zeros(16_000)).shape
    torch.Size([1024, 128])
    """

    mels: int = 128
    frames: int = 1024
    mean: float = -4.2677393  # of AudioSet, as `std`
    std: float = 4.5689974

    def __call__(self, samples: Tensor) -> Tensor:
        if len(samples) < WINDOW:
            raise InputError(f"a sound of {len(samples)} samples is shorter than a frame\ngive at least {WINDOW}, 25 ms")
        levels = kaldi.fbank(samples[None], sample_frequency=RATE, window_type="hanning", num_mel_bins=self.mels)
        levels = levels[: self.frames]  # (frames or fewer, mels)
        return (F.pad(levels, (0, 0, 0, self.frames - len(levels))) - self.mean) / (2 * self.std)


@dataclass(frozen=True)
class Waveform:
    """What wav2vec 2.0 and HuBERT take: samples (n,) → (n,), to a mean of 0 and a variance of 1 where the net was trained so.

    >>> samples = Waveform(normalize=True)(torch.tensor([1.0, 3.0]))
    >>> samples.tolist()
    [-1.0, 1.0]
    """

    normalize: bool

    def __call__(self, samples: Tensor) -> Tensor:
        if not self.normalize:
            return samples
        return (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()


@lru_cache
def _hann(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.hann_window(WINDOW, device=device)


@lru_cache
def _mel_filters(mels: int, device: torch.device) -> Tensor:
    """(mels, 201): triangles of equal area, evenly spread on Slaney's scale. In fp64, which shows where little is heard."""
    with torch.inference_mode(False):
        bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)  # Hz
        edges = _hertz(torch.linspace(0, _mel(RATE / 2), mels + 2, dtype=torch.float64))
        rising = (bins - edges[:-2, None]) / edges.diff()[:-1, None]
        falling = (edges[2:, None] - bins) / edges.diff()[1:, None]
        triangles = torch.minimum(rising, falling).clamp(min=0)  # (mels, 201)
        return (triangles * 2 / (edges[2:] - edges[:-2])[:, None]).float().to(device)


# Slaney's scale is linear up to 1 kHz, 15 mels, and then has 27 mels for every factor of 6.4 (Auditory Toolbox, 1998).
def _mel(hertz: float) -> float:
    return 15 + 27 * math.log(hertz / 1000) / math.log(6.4)  # above 1 kHz


def _hertz(mels: Tensor) -> Tensor:
    return torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
