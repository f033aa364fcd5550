"""Fine-tune a detector on scenes of your own, images with boxes around the objects in them, or on a data set by name.

    bestiary finetune detr-resnet-50 --data scenes/ --output my-detector
    python scripts/finetune_detector.py detr-resnet-50 --data coco-2017 --epochs 10

The data is a folder with images and COCO's files of annotations, as Roboflow, CVAT and COCO itself have them, or the name of a
card in model_cards/datasets; or whatever has the columns `image`, `boxes` (left, top, right, bottom, in pixels) and `labels`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from bestiary import loading
from bestiary.cli import run_command
from bestiary.cli.recipe import finetuning_options
from bestiary.core.media import path_of
from bestiary.core.tuning.data import described, name_tags, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run
from bestiary.vision import datasets
from bestiary.vision.finetuning_detection import Detection, PaddedScenes, weight_of, with_objects

TASK = "object-detection"


@click.command()
@finetuning_options(epochs=30, batch_size=4, lr=1e-4, weight_decay=1e-4, clip=0.1)
@click.option("--mirrored", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of images to mirror.")
@click.option("--image", default="image", show_default=True, help="The column of images or of their paths.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), default="raise", show_default=True, help="At corrupt images.")
def finetune(asked: Request, mirrored: float, **reading: Any) -> None:
    """Fine-tune MODEL to find objects in images."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn, for a person to look at before anything starts.
    splits = read_splits(partial(datasets.load, data, **reading, **trusted), recipe.seed)
    scenes, labels = name_tags(splits.changed(partial(with_objects, whose=data)), data, fewest=1)
    counts = [len(row) for row in scenes.train["label"]]
    boxes = sum(counts)
    learned = f"{described(scenes, labels)}\n{boxes:,} boxes to learn from, {min(counts)} to {max(counts)} an image"
    click.echo(f"{data}: {learned}", err=True)

    # A pretrained net with a new head.
    detect: Any = loading.load_for(asked.model, TASK, labels, **trusted)
    facts = {"rows": len(counts), "labels": labels, "mirrored": mirrored, **reading}
    run = Run(asked, detect, facts)
    run.begin()

    # The batches, the steps, and the state that validation finds best.
    train = Batches(scenes.train, PaddedScenes(detect.preprocess, mirrored))
    validation = Batches(scenes.validation, PaddedScenes(detect.preprocess))
    order = Order.of(recipe, len(counts), weights=[weight_of(count, detect.net.config.queries) for count in counts])
    how: dict[str, Any] = {"recipe": recipe, "steps": order.steps, "name_of": path_of(scenes.train, "image")}
    tuning = Detection(detect.net, boxes / len(counts), **how)
    fitted = fit(tuning, train, validation, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, **reading)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
