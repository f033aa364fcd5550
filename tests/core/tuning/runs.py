"""A small run of fine-tuning with everything in it that is random, as a program of its own, to be killed and resumed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bestiary.core.tuning.fit import Fitted, fit
from bestiary.core.tuning.order import Batches, Order, Place
from bestiary.core.tuning.recipe import Recipe
from bestiary.table import find_architecture
from bestiary.vision.augmentation import PRESETS, Augmentation
from bestiary.vision.finetuning import Augmented, ImageClassification, Prepared
from bestiary.vision.transforms import Preprocess

RECIPE = Recipe(epochs=4, batch_size=4, accumulate=2, lr=1e-3, ema=0.9, workers=2, save_every=3, device="cpu", precision="fp32")
CONFIG = {"depths": [1, 2], "widths": [8, 16], "num_classes": 3, "drop_path": 0.3}
PREPROCESS = Preprocess(size=32, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Images of noise whose class shows in one colour."""
    dice = np.random.default_rng(seed)
    found = []
    for number in range(count):
        image = dice.integers(0, 160, (40, 48, 3), dtype=np.uint8)
        image[..., number % 3] += 90
        found.append({"image": image, "label": number % 3})
    return found


def tuning(recipe: Recipe, steps: int, augmentation: Augmentation = PRESETS["deit"], **changes: Any) -> ImageClassification:
    torch.manual_seed(0)
    architecture = find_architecture("convnext")
    net = architecture.build(architecture.configure({**CONFIG, **changes}))
    return ImageClassification(net, augmentation, recipe=recipe, steps=steps)


def run(
    folder: Path,
    *,
    resume: bool = False,
    recipe: Recipe = RECIPE,
    augmentation: Augmentation = PRESETS["deit"],
    **changes: Any,
) -> Fitted:
    train = Batches(rows(60, 0), Augmented(augmentation, PREPROCESS))
    order = Order.of(recipe, 60, repeats=augmentation.repeats)
    tuned = tuning(recipe, order.steps, augmentation, **changes)
    return fit(tuned, train, Batches(rows(12, 1), Prepared(PREPROCESS)), order, folder, resume=resume)


def run_plainly(folder: Path, resume: bool = False, **changes: Any) -> Fitted:
    """Without what is random about a batch as a whole, which is another for each process."""
    plain = replace(RECIPE, ema=0.0, workers=0, epochs=2, **changes)
    return run(folder, resume=resume, recipe=plain, augmentation=PRESETS["light"], drop_path=0.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 2 and sys.argv[2] in ("ddp", "fsdp"):
        batch_size = 4 if "--doubled" in sys.argv else 2
        fitted = run_plainly(Path(sys.argv[1]), "--resume" in sys.argv, strategy=sys.argv[2], batch_size=batch_size)
        torch.save(fitted.net.state_dict(), Path(sys.argv[1]) / f"net-{Place.here().rank}.pt")
    else:
        recipe = replace(RECIPE, epochs=10_000) if "--endless" in sys.argv else RECIPE
        run(Path(sys.argv[1]), resume="--resume" in sys.argv, recipe=recipe)
