"""Fine-tune an encoder to tell texts apart, on texts of your own or on a data set by name.

    bestiary finetune minilm-l6-v2 --task text-classification --data reviews.csv
    python scripts/finetune_text_classifier.py minilm-l6-v2 --data openmoji --output emoji-names

The data has the columns `text` and `label`: csv, tsv, jsonl, parquet, a folder of them with train and test in their names,
`hf:owner/repo`, or the name of a card in model_cards/datasets.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from bestiary import loading
from bestiary.cli import run_command
from bestiary.cli.recipe import finetuning_options
from bestiary.core.tuning.data import described, name_classes, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run
from bestiary.text import datasets
from bestiary.text.finetuning import PackedRows, TextClassification, row_of
from bestiary.text.prepare import LENGTH, tokenise

TASK = "text-classification"


@click.command()
@finetuning_options(lr=1e-4, weight_decay=0.01, warmup=0.1)
@click.option("--text", default="text", show_default=True, help="The column of texts.")
@click.option("--label", default="label", show_default=True, help="The column of classes.")
def finetune(asked: Request, text: str, label: str) -> None:
    """Fine-tune MODEL to tell classes of texts apart."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn.
    load = partial(datasets.load, data, text=text, label=label, **trusted)
    splits, labels = name_classes(read_splits(load, recipe.seed), data)

    # A pretrained encoder with a new head, and the texts as its tokens.
    classify: Any = loading.load_for(asked.model, TASK, labels, **trusted)
    train, validation = (tokenise(rows, classify.tokenizer) for rows in (splits.train, splits.validation))
    learned = described(splits, labels, train[LENGTH])
    click.echo(f"{data}: {learned}", err=True)
    facts = {"rows": len(splits.train), "labels": labels, "text": text, "label": label}
    run = Run(asked, classify, facts)
    run.begin()

    # The steps, on packed rows, and the state that validation finds best.
    order = Order.of(recipe, len(train))
    tuning = TextClassification(classify.net, recipe=recipe, steps=order.steps, name_of=row_of(splits.train["text"]))
    learning, validating = (Batches(rows, PackedRows()) for rows in (train, validation))
    fitted = fit(tuning, learning, validating, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, text=text, label=label)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
