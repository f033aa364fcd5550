"""Fine-tune an image classifier on images of your own, or on a data set by name.

    bestiary finetune efficientnet-lite0 --data photos/ --output my-classifier
    python scripts/finetune_image_classifier.py efficientnet-lite0 --data openmoji --epochs 3

The data is a folder of images for each class (in train and val, or not), a csv, jsonl or parquet of paths and labels, tars of
webdataset, `hf:owner/repo`, or the name of a card in model_cards/datasets.
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
from bestiary.core.tuning.data import described, name_classes, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run
from bestiary.vision import datasets
from bestiary.vision.augmentation import PRESETS
from bestiary.vision.finetuning import Augmented, ImageClassification, Prepared

TASK = "image-classification"


@click.command()
@finetuning_options(lr=5e-4, decay=0.8)
@click.option("--augment", type=click.Choice(list(PRESETS)), default="light", show_default=True, help="How images are changed.")
@click.option("--from-scratch", is_flag=True, help="Begin with random weights, not the pretrained ones.")
@click.option("--image", default="image", show_default=True, help="The column of images or of their paths.")
@click.option("--label", default="label", show_default=True, help="The column of classes.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), default="raise", show_default=True, help="At corrupt images.")
def finetune(asked: Request, augment: str, from_scratch: bool, **reading: Any) -> None:
    """Fine-tune MODEL to tell classes of images apart."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn, for a person to look at before anything starts.
    splits, labels = name_classes(read_splits(partial(datasets.load, data, **reading, **trusted), recipe.seed), data)
    learned = described(splits, labels)
    click.echo(f"{data}: {learned}", err=True)

    # A net with a new head.
    classify: Any = loading.load_for(asked.model, TASK, labels, pretrained=not from_scratch, **trusted)
    facts = {"rows": len(splits.train), "labels": labels, "augment": augment, **reading}
    run = Run(asked, classify, facts)
    run.begin()

    # The batches, the steps, and the state that validation finds best.
    augmentation = PRESETS[augment]
    train = Batches(splits.train, Augmented(augmentation, classify.preprocess))
    validation = Batches(splits.validation, Prepared(classify.preprocess))
    order = Order.of(recipe, len(splits.train), repeats=augmentation.repeats)
    how: dict[str, Any] = {"recipe": recipe, "steps": order.steps, "name_of": path_of(splits.train, "image")}
    tuning = ImageClassification(classify.net, augmentation, **how)
    fitted = fit(tuning, train, validation, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, **reading)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
