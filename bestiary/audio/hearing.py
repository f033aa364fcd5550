"""How nets that answer for a whole sound hear it: in pieces of what they take, as the card's `preprocess` says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bestiary.audio.transforms import HOP, WINDOW, Filterbank, Waveform
from bestiary.errors import LayoutError


@dataclass(frozen=True, kw_only=True)
class HearingPreprocess:
    """The keys of a card's `preprocess` for audio-classification and audio-embedding."""

    rate: int = 16_000  # Hz
    features: Literal["filterbank", "waveform"] = "waveform"  # what the net takes; see HEARINGS
    mean: float = -4.2677393  # of a filterbank: what is taken off
    std: float = 4.5689974  # of a filterbank: half of what it is divided by
    normalize: bool = True  # of a waveform: whether each piece is brought to a mean of 0 and a variance of 1
    seconds: float = 30.0  # of a waveform: the longest piece that is heard at once


class Hearing(ABC):
    """From samples to what a net takes."""

    shortest: int  # samples of a piece; a sound with fewer has zeros behind it
    longest: int

    def pieces(self, samples: Tensor) -> list[Tensor]:
        """The sound (samples,), or as many pieces of it as it takes, each of the longest length.

        They lie evenly, the first at its beginning and the last at its end, so that neighbours overlap a little.

        >>> [piece.tolist() for piece in Spoken(shortest=1, longest=4).pieces(torch.arange(6))]
        [[0, 1, 2, 3], [2, 3, 4, 5]]
        """
        spare = len(samples) - self.longest
        if spare <= 0:
            return [F.pad(samples, (0, max(0, self.shortest - len(samples))))]
        count = ceil(len(samples) / self.longest)
        starts = [round(spare * number / (count - 1)) for number in range(count)]
        return [samples[start : start + self.longest] for start in starts]

    @abstractmethod
    def inputs(self, pieces: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A batch of pieces, as the net's arguments."""

    @abstractmethod
    def pooled(self, net: Any, *inputs: Tensor) -> Tensor:
        """What the net hears in each piece of a batch, as one row (batch, width)."""


class Seen(Hearing):
    """Spectrograms of one size, as AST looks at them: (batch, frames, mels)."""

    def __init__(self, preprocess: HearingPreprocess, config: Any):
        if not hasattr(config, "mels") or not hasattr(config, "frames"):
            raise LayoutError("a filterbank is for nets that see frames of mels\ncorrect `features` in the card")
        self.filterbank = Filterbank(mels=config.mels, frames=config.frames, mean=preprocess.mean, std=preprocess.std)
        self.shortest, self.longest = WINDOW, WINDOW + (config.frames - 1) * HOP

    def inputs(self, pieces: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (torch.stack([self.filterbank(piece) for piece in pieces]),)

    def pooled(self, net: Any, *inputs: Tensor) -> Tensor:
        pooled: Tensor = net.pooled(*inputs)
        return pooled


class Spoken(Hearing):
    """Samples, as wav2vec 2.0 and HuBERT take them: (batch, n), and a mask of the same where some are shorter."""

    def __init__(self, *, shortest: int, longest: int, normalize: bool = True):
        self.shortest, self.longest, self.waveform = shortest, longest, Waveform(normalize)

    @classmethod
    def of(cls, preprocess: HearingPreprocess, config: Any) -> Spoken:
        if not hasattr(config, "reach"):
            raise LayoutError("waveforms are for nets that take samples\ncorrect `features` in the card")
        longest = max(config.reach, round(preprocess.seconds * preprocess.rate))
        return cls(shortest=config.reach, longest=longest, normalize=preprocess.normalize)

    def inputs(self, pieces: Sequence[Tensor]) -> tuple[Tensor, ...]:
        samples = pad_sequence([self.waveform(piece) for piece in pieces], batch_first=True)
        lengths = torch.tensor([len(piece) for piece in pieces])
        mask = torch.arange(samples.shape[1]) < lengths[:, None]
        return (samples,) if mask.all() else (samples, mask)

    def pooled(self, net: Any, *inputs: Tensor) -> Tensor:
        """The mean over the frames that are of the sound."""
        states: Tensor = net.hidden_states(*inputs)  # (batch, frames, width)
        if len(inputs) == 1:
            return states.mean(1)
        frames = net.config.frames(inputs[1].sum(1))  # (batch,)
        kept = torch.arange(states.shape[1], device=states.device) < frames[:, None]
        return states.where(kept[:, :, None], 0).sum(1) / frames[:, None]


HEARINGS: Mapping[str, Any] = {"filterbank": Seen, "waveform": Spoken.of}


def hearing_of(preprocess: HearingPreprocess, config: Any) -> Hearing:
    """How the net of a config hears. Raises LayoutError where it cannot hear what `preprocess` says."""
    hearing: Hearing = HEARINGS[preprocess.features](preprocess, config)
    return hearing
