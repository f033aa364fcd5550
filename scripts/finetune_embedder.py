"""Fine-tune an encoder so that texts which belong together get vectors that are near: search, duplicates, answers to questions.

    bestiary finetune minilm-l6-v2 --data pairs.csv
    python scripts/finetune_embedder.py minilm-l6-v2 --data questions.jsonl --text question --positive answer

The data has two columns of texts, each row a pair: csv, tsv, jsonl, parquet, a folder of them with train and test in their
names, `hf:owner/repo`, or the name of a card in model_cards/datasets. The other rows of a batch are what a text is told from,
so large batches teach more.
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
from bestiary.core.tuning.data import described, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run
from bestiary.text import datasets
from bestiary.text.finetuning import Contrastive, PackedPairs, row_of
from bestiary.text.prepare import LENGTH, tokenise_pairs

TASK, POSITIVE = "text-embedding", "positive"


@click.command()
@finetuning_options(batch_size=64, lr=2e-5, weight_decay=0.01, warmup=0.1, epochs=1)
@click.option("--text", default="text", show_default=True, help="The column of texts.")
@click.option("--positive", default="positive", show_default=True, help="The column of what each of them belongs to.")
def finetune(asked: Request, text: str, positive: str) -> None:
    """Fine-tune MODEL to give near vectors to texts that belong together."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn: pairs, as the tokens of a pretrained encoder.
    splits = read_splits(partial(datasets.load, data, text=text, **trusted), recipe.seed)
    splits = splits.changed(lambda rows: renamed(rows, {POSITIVE: positive}, data).select_columns(["text", POSITIVE]))
    embed: Any = loading.load_for(asked.model, TASK, **trusted)
    train, validation = (tokenise_pairs(rows, embed.tokenizer) for rows in (splits.train, splits.validation))
    learned = described(splits, lengths=train[LENGTH])
    click.echo(f"{data}: {learned}", err=True)
    facts = {"rows": len(splits.train), "text": text, "positive": positive}
    run = Run(asked, embed, facts)
    run.begin()

    # The steps, on packed rows, and the state that validation finds best.
    order = Order.of(recipe, len(train))
    how = {"recipe": recipe, "steps": order.steps, "name_of": row_of(splits.train["text"])}
    tuning = Contrastive(embed.net, embed.pooling, **how)
    learning, validating = (Batches(rows, PackedPairs()) for rows in (train, validation))
    fitted = fit(tuning, learning, validating, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, text=text, positive=positive)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
