"""How nets learn to tell sounds apart: the batches, and the loss that is computed on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.audio.augmentation import Augmentation
from bestiary.audio.hearing import Hearing
from bestiary.audio.sound import read_sound
from bestiary.audio.tasks.classification import AudioClassifier
from bestiary.core.tables import LABEL
from bestiary.core.tuning.module import FineTuning, Judge

# How much sounds are changed at random; the masks are for features of some hundred frames.
PRESETS = {
    "none": Augmentation(speeds=(1.0,), gain=0.0, noise=None, frequency_masks=0, time_masks=0),
    "light": Augmentation(speeds=(1.0,), noise=None, frequency_width=8, time_width=20),
    "strong": Augmentation(frequency_width=16, time_width=50),
}


class Sounds(NamedTuple):
    """Sounds as a net takes them, and the numbers of their classes."""

    inputs: tuple[Tensor, ...]
    labels: Tensor  # (n,)


class Prepared:
    """Rows to the middle of each sound, as much as the net hears at once, for validation."""

    def __init__(self, hearing: Hearing, rate: int):
        self.hearing, self.rate = hearing, rate

    def __call__(self, rows: Sequence[Any], seeds: Sequence[int]) -> Sounds:
        pieces = [self.piece(read_sound(row["audio"], self.rate), seed) for row, seed in zip(rows, seeds, strict=True)]
        return Sounds(self.hearing.inputs(pieces), torch.tensor([row[LABEL] for row in rows]))

    def piece(self, samples: Tensor, seed: int) -> Tensor:
        pieces = self.hearing.pieces(samples)
        return pieces[len(pieces) // 2]


class Augmented(Prepared):
    """Rows to a part of each sound for training, chosen and changed at random as its seed says."""

    def __init__(self, hearing: Hearing, rate: int, augmentation: Augmentation):
        super().__init__(hearing, rate)
        self.augmentation = augmentation

    def piece(self, samples: Tensor, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        samples = self.augmentation.samples(samples, generator)
        start = int(torch.randint(max(1, len(samples) - self.hearing.longest + 1), (), generator=generator))
        return self.hearing.pieces(samples[start : start + self.hearing.longest])[0]


class AudioClassification(FineTuning):
    """A net with a head for classes learns to tell them apart, by cross-entropy."""

    judge = Judge("val_accuracy")

    def __init__(self, task: AudioClassifier, augmentation: Augmentation, **how: Any):
        super().__init__(task.net, **how)
        self.augmentation = augmentation

    def loss(self, sounds: Sounds) -> Tensor:
        first, *others = sounds.inputs
        if first.dim() == 3:  # spectrograms (n, frames, bands); samples have no bands to hide
            first = self.augmentation.features(first.transpose(1, 2)).transpose(1, 2)
        return F.cross_entropy(self.net(first, *others), sounds.labels)

    def measures(self, sounds: Sounds) -> tuple[dict[str, Tensor], int]:
        logits = self.net(*sounds.inputs)
        right = logits.argmax(-1) == sounds.labels
        return {"val_loss": F.cross_entropy(logits, sounds.labels), "val_accuracy": right.float().mean()}, len(right)


def give_one_label(task: AudioClassifier) -> None:
    """Have the card say that a sound has one label, as is learnt here, whatever it said before."""
    task.card = replace(task.card, preprocess={**task.card.preprocess, "scores": "softmax"})
