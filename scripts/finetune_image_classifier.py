"""Fine-tune an image classifier on images of your own, or on a data set by name.

    bestiary finetune efficientnet-lite0 --data photos/ --output my-classifier
    python scripts/finetune_image_classifier.py efficientnet-lite0 --data openmoji --epochs 3

The data is a folder of images for each class (in train and val, or not), a csv, jsonl or parquet of paths and labels, tars of
webdataset, `hf:owner/repo`, or the name of a card in model_cards/datasets.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bestiary import loading
from bestiary.cli import run_command
from bestiary.cli.recipe import finetuning_options
from bestiary.core.tuning.data import described, name_classes, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.core.tuning.recipe import Recipe
from bestiary.finetuned import Run, as_typed, digest_of, measured
from bestiary.vision import datasets
from bestiary.vision.augmentation import PRESETS
from bestiary.vision.finetuning import Augmented, ImageClassification, Prepared, path_of

TASK = "image-classification"


@click.command()
@finetuning_options(lr=5e-4, decay=0.8)
@click.option("--augment", type=click.Choice(list(PRESETS)), default="light", show_default=True, help="How images are changed.")
@click.option("--from-scratch", is_flag=True, help="Begin with random weights, not the pretrained ones.")
@click.option("--image", default="image", show_default=True, help="The column of images or of their paths.")
@click.option("--label", default="label", show_default=True, help="The column of classes.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), default="raise", show_default=True, help="At corrupt images.")
def finetune(
    model: str,
    data: str,
    output: Path,
    resume: bool,
    recipe: Recipe,
    trusted: dict[str, Any],
    command: Sequence[str],
    augment: str,
    from_scratch: bool,
    **reading: Any,
) -> None:
    """Fine-tune MODEL to tell classes of images apart."""
    # What there is to learn, for a person to look at before anything starts.
    splits, labels = name_classes(read_splits(partial(datasets.load, data, **reading, **trusted), recipe.seed), data)
    learned = described(splits, labels)
    click.echo(f"{data}: {learned}", err=True)

    # A net with a new head.
    classify: Any = loading.load_for(model, TASK, labels, pretrained=not from_scratch, **trusted)
    facts = {"digest": digest_of(classify), "rows": len(splits.train), "labels": labels, "augment": augment, **reading}
    run = Run(output, model, data, recipe, command, facts)
    run.begin(resume=resume)

    # The batches, the steps, and the state that validation finds best.
    augmentation = PRESETS[augment]
    train = Batches(splits.train, Augmented(augmentation, classify.preprocess))
    validation = Batches(splits.validation, Prepared(classify.preprocess))
    order = Order.of(recipe, len(splits.train), repeats=augmentation.repeats)
    tuning = ImageClassification(classify.net, augmentation, recipe=recipe, steps=order.steps, name_of=path_of(splits.train))
    fitted = fit(tuning, train, validation, order, run.training, resume=resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    if order.place.rank:  # of several processes the first one writes
        return
    stage = run.stage(classify, fitted.net)
    run.publish(measured(stage, run, splits, **reading), learned)
    click.echo(f"{output}: bestiary run {as_typed(output)} <image>", err=True)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
