"""How nets of images learn: the loss of each task, and the batches that it is computed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.tables import LABEL
from bestiary.core.tuning.module import FineTuning, Judge
from bestiary.vision.augmentation import Augmentation
from bestiary.vision.datasets.formats import IMAGE
from bestiary.vision.transforms import Preprocess


class Images(NamedTuple):
    """Images and the numbers of their classes."""

    images: Tensor  # fp32 (n, 3, size, size), normalised
    labels: Tensor  # (n,)


class Augmented:
    """Rows to images for training, each changed at random as its seed says."""

    def __init__(self, augmentation: Augmentation, preprocess: Preprocess):
        self.change = augmentation.for_images(preprocess)

    def __call__(self, rows: Sequence[Any], seeds: Sequence[int]) -> Images:
        generators = (torch.Generator().manual_seed(seed) for seed in seeds)
        images = [self.change(row[IMAGE], generator) for row, generator in zip(rows, generators, strict=True)]
        return Images(torch.stack(images), torch.tensor([row[LABEL] for row in rows]))


class Prepared:
    """Rows to images as the card prepares them, for validation."""

    def __init__(self, preprocess: Preprocess):
        self.preprocess = preprocess

    def __call__(self, rows: Sequence[Any], seeds: Sequence[int]) -> Images:
        return Images(self.preprocess([row[IMAGE] for row in rows]), torch.tensor([row[LABEL] for row in rows]))


class ImageClassification(FineTuning):
    """A net with a head for classes learns to tell them apart, by cross-entropy."""

    judge = Judge("val_accuracy")

    def __init__(self, net: nn.Module, augmentation: Augmentation, **how: Any):
        super().__init__(net.to(memory_format=torch.channels_last), **how)
        self.mix = augmentation.for_batches(net.config.num_classes)  # type: ignore[union-attr, arg-type]

    def loss(self, inputs: Images) -> Tensor:
        images, shares = self.mix(*inputs)
        return F.cross_entropy(self.net(images), shares)

    def measures(self, inputs: Images) -> tuple[dict[str, Tensor], int]:
        logits = self.net(inputs.images)
        right = logits.argmax(-1) == inputs.labels
        return {"val_loss": F.cross_entropy(logits, inputs.labels), "val_accuracy": right.float().mean()}, len(right)
