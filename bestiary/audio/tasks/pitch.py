"""Sounds to their pitch over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bestiary.audio.decoding_pitch import DECODERS, bins_between, hertz_of
from bestiary.audio.drawing import draw_pitch
from bestiary.audio.tasks.sounds import SoundTask
from bestiary.core.record import record
from bestiary.core.runtime import side_by_side
from bestiary.core.task import Report
from bestiary.errors import InputError

FRAMES = 128  # that are computed at once; on a CPU their activations fit the cache
HIGHEST = 2006.0  # Hz, beyond which the net knows no pitch


@dataclass(frozen=True, kw_only=True)
class PitchPreprocess:
    """The keys of a card's `preprocess` for pitch."""

    rate: int = 16_000  # Hz


class Pitch(NamedTuple):
    """The pitch of a sound at each of its times; all tensors are fp32 (times,), on the CPU."""

    times: Tensor  # seconds from the beginning, at the middle of each frame
    hertz: Tensor
    confidence: Tensor  # 0 to 1: how sure the net is that there is a pitch, this one

    def plot(self) -> Image.Image:
        """The pitch over time, as dark as the net is sure of it."""
        return draw_pitch(*(part.tolist() for part in self))


class PitchTracker(SoundTask):
    """Sounds to pitch.

    >>> import bestiary
    >>> track = bestiary.load("crepe-tiny")
    >>> a = torch.sin(torch.arange(16000) * 2 * torch.pi * 440 / 16000)
    >>> pitch = track(a, hop=0.1)
    >>> pitch.hertz.shape, round(pitch.hertz[5].item() / 440, 1)
    (torch.Size([11]), 1.0)
    """

    keys = ("rate",)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.rate = record(PitchPreprocess, self.card.preprocess, f"preprocess of {self.card.name}").rate

    def __call__(
        self,
        sounds: Any,
        *,
        hop: float = 0.01,
        fmin: float = 50.0,
        fmax: float = 1000.0,
        decoder: str = "viterbi",
        batch_size: int | None = None,
    ) -> Any:
        """`Pitch(times, hertz, confidence)` every `hop` seconds, for one sound; a list of them for a list of sounds.

        Pitches between `fmin` and `fmax` Hz, at most 2006, are looked for; where there is none, a path is drawn to the highest.
        The decoder "viterbi" finds the smoothest likely path, in steps of 20 cents; "weighted" takes each moment by itself and
        averages around the best; "argmax" takes the best. Pitches are those of torchcrepe without the noise that it adds. A
        sound without pitch gets one as well: `confidence` tells.
        Raises InputError, for an address also OfflineError or SourceError.
        """
        step = round(hop * self.rate)
        if step < 1 or not 0 < fmin < fmax <= HIGHEST or decoder not in DECODERS:
            raise InputError(
                f"hop={hop}, fmin={fmin}, fmax={fmax}, decoder={decoder!r} make no sense\n"
                f"wanted: hop of a sample or more, 0 < fmin < fmax <= {HIGHEST:.0f}, decoder one of {', '.join(DECODERS)}"
            )

        def track(samples: Tensor) -> Pitch:
            batches = list(self._frames(samples, step).split(FRAMES))
            probabilities = torch.cat(side_by_side(self._probabilities, batches, self.device))  # (times, bins)
            range_ = bins_between(fmin, fmax, probabilities.shape[1])
            allowed = torch.full_like(probabilities, float("-inf"))
            allowed[:, range_] = probabilities[:, range_]
            bins, cents = DECODERS[decoder](allowed)
            confidence = probabilities.gather(1, bins[:, None])[:, 0]
            return Pitch(torch.arange(len(bins)) * step / self.rate, hertz_of(cents), confidence)

        return self.answered(sounds, lambda batch: map(track, batch), batch_size=batch_size)

    def returns(self) -> Mapping[str, Any]:
        return {"times": list[float], "hertz": list[float], "confidence": list[float]}

    def record(self, result: Pitch) -> Mapping[str, Any]:
        return {name: part.tolist() for name, part in result._asdict().items()}

    def report(self, inputs: Sequence[str]) -> Report:
        results = self(list(inputs))
        records = [row for sound, pitch in zip(inputs, results, strict=True) for row in _rows(sound, pitch)]
        rows = [[row["sound"], f"{row['time']:.2f}", f"{row['hertz']:.1f}", f"{row['confidence']:.2f}"] for row in records]
        return Report(columns=["sound", "time", "hertz", "confidence"], rows=rows, records=records, results=results)

    def _frames(self, samples: Tensor, step: int) -> Tensor:
        """The samples around each time, (times, window), zeros where the sound has none: a view of them."""
        window: int = self.inference.net.config.window  # type: ignore[union-attr,assignment]
        return F.pad(samples, (window // 2, window // 2)).unfold(0, window, step)

    def _probabilities(self, frames: Tensor) -> Tensor:
        """(times, bins), fp32, on the CPU."""
        frames = frames - frames.mean(1, keepdim=True)
        frames = frames / frames.std(1, keepdim=True).clamp(min=1e-10)
        weight = next(self.net.parameters())
        found: Tensor = self.inference(frames.to(weight.device, weight.dtype))
        return found.float().cpu()


def _rows(sound: str, pitch: Pitch) -> Iterator[dict[str, Any]]:
    for time, hertz, confidence in zip(*(part.tolist() for part in pitch), strict=True):
        yield {"sound": sound, "time": time, "hertz": hertz, "confidence": confidence}
