"""Fine-tune an encoder to find spans in texts, such as names of people and places, from words with tags.

    bestiary finetune minilm-l6-v2 --task token-classification --data entities.jsonl
    python scripts/finetune_token_classifier.py minilm-l6-v2 --data conll2003 --trust first-use

The data has the columns `words`, a list of words for each row, and `label`, a list of their tags: jsonl, parquet, a folder of
them with train and test in their names, `hf:owner/repo`, or the name of a card in model_cards/datasets. Tags that begin with B-
and I- begin and continue a span.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from bestiary import loading
from bestiary.cli import run_command
from bestiary.cli.recipe import finetuning_options
from bestiary.core.tables import renamed
from bestiary.core.tuning.data import described, name_tags, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run
from bestiary.text import datasets
from bestiary.text.finetuning import PackedRows, TokenClassification, row_of
from bestiary.text.prepare import LENGTH, tokenise_words

TASK = "token-classification"


@click.command()
@finetuning_options(lr=1e-4, weight_decay=0.01, warmup=0.1)
@click.option("--words", default="words", show_default=True, help="The column of lists of words.")
@click.option("--label", default="label", show_default=True, help="The column of lists of tags.")
def finetune(asked: Request, words: str, label: str) -> None:
    """Fine-tune MODEL to find spans of texts."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn.
    splits = read_splits(partial(datasets.load, data, label=label, **trusted), recipe.seed)
    splits, tags = name_tags(splits.changed(lambda rows: renamed(rows, {"words": words}, data)), data)

    # A pretrained encoder with a new head, and the words as its tokens.
    find: Any = loading.load_for(asked.model, TASK, tags, **trusted)
    train, validation = (tokenise_words(rows, find.tokenizer.rules) for rows in (splits.train, splits.validation))
    learned = described(splits, tags, train[LENGTH])
    click.echo(f"{data}: {learned}", err=True)
    facts = {"rows": len(splits.train), "labels": tags, "words": words, "label": label}
    run = Run(asked, find, facts)
    run.begin()

    # The steps, on packed rows, and the state that validation finds best.
    order = Order.of(recipe, len(train), weights=[sum(tag >= 0 for tag in row) for row in train["label"]])
    sentences = [" ".join(row) for row in splits.train["words"]]
    tuning = TokenClassification(find.net, recipe=recipe, steps=order.steps, name_of=row_of(sentences))
    learning, validating = (Batches(rows, PackedRows()) for rows in (train, validation))
    fitted = fit(tuning, learning, validating, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, words=words, label=label)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
