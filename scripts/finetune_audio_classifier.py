"""Fine-tune an audio classifier on sounds of your own, or on a data set by name.

    bestiary finetune ast-audioset --data noises/ --output my-classifier --trust first-use
    python scripts/finetune_audio_classifier.py ast-audioset --from-scratch --data telephone-prompts --output languages \\
        --config frames=256 --config mels=64 --config mel_stride=16 --config frame_stride=16 --config layers=4 \\
        --config width=128 --config heads=4 --config hidden=512 --epochs 12 --batch-size 16 --lr 1e-3 --decay 1

The data is a folder of sounds for each class (in train and val, or not), a csv, jsonl or parquet of paths and labels,
`hf:owner/repo`, or the name of a card in model_cards/datasets. The second line tells languages apart, from nothing, in minutes.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from bestiary import loading
from bestiary.audio import datasets
from bestiary.audio.finetuning import PRESETS, AudioClassification, Augmented, Prepared, give_one_label
from bestiary.cli import run_command
from bestiary.cli.recipe import config_of, finetuning_options
from bestiary.core.media import path_of
from bestiary.core.tuning.data import described, name_classes, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.errors import InputError
from bestiary.finetuned import Request, Run

TASK = "audio-classification"


@click.command()
@finetuning_options(lr=5e-4, decay=0.8)
@click.option("--augment", type=click.Choice(list(PRESETS)), default="light", show_default=True, help="How sounds are changed.")
@click.option("--from-scratch", is_flag=True, help="Begin with random weights, not the pretrained ones.")
@click.option("--config", multiple=True, metavar="FIELD=VALUE", callback=config_of, help="From scratch: a net of another size.")
@click.option("--audio", default="audio", show_default=True, help="The column of sounds or of their paths.")
@click.option("--label", default="label", show_default=True, help="The column of classes.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), default="raise", show_default=True, help="At corrupt sounds.")
def finetune(asked: Request, augment: str, from_scratch: bool, config: dict[str, Any], **reading: Any) -> None:
    """Fine-tune MODEL to tell classes of sounds apart."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn, for a person to look at before anything starts.
    splits, labels = name_classes(read_splits(partial(datasets.load, data, **reading, **trusted), recipe.seed), data)
    learned = described(splits, labels)
    click.echo(f"{data}: {learned}", err=True)

    # A net with a new head.
    if config and not from_scratch:
        raise InputError("pretrained weights have the size that they have\nleave --config out, or begin --from-scratch")
    classify: Any = loading.load_for(asked.model, TASK, labels, pretrained=not from_scratch, config=config, **trusted)
    give_one_label(classify)
    facts = {"rows": len(splits.train), "labels": labels, "augment": augment, "config": config, **reading}
    run = Run(asked, classify, facts)
    run.begin()

    # The batches, the steps, and the state that validation finds best.
    train = Batches(splits.train, Augmented(classify.hearing, classify.rate, PRESETS[augment]))
    validation = Batches(splits.validation, Prepared(classify.hearing, classify.rate))
    order = Order.of(recipe, len(splits.train))
    how: dict[str, Any] = {"recipe": recipe, "steps": order.steps, "name_of": path_of(splits.train, "audio")}
    tuning = AudioClassification(classify, PRESETS[augment], **how)
    fitted = fit(tuning, train, validation, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, **reading)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
