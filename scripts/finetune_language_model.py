"""Tune a language model to answer as the examples do: conversations, prompts with answers, or plain texts.

    bestiary finetune smollm2-135m-instruct --data answers.jsonl --lora 16
    python scripts/finetune_language_model.py smollm2-135m-instruct --data texts/ --length 1024

The data has the column `messages`, each a list such as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}];
or `prompt` and `answer`; or `text`: jsonl, csv, parquet, a folder of them with train and test in their names, `hf:owner/repo`,
or the name of a card. Only the answers are learned, of a text all of it. Examples lie packed end to end, none sees another.
With --lora the weights stay as they are, and what is written is an adapter of a few MB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from bestiary import loading
from bestiary.cli import run_command
from bestiary.cli.recipe import finetuning_options
from bestiary.core.adapt import add_adapter
from bestiary.core.tuning.data import described, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run
from bestiary.text import datasets
from bestiary.text.conversations import example_of, fill_blocks, form_of
from bestiary.text.finetuning_language import Answering, PackedBlocks, blocks_named

TASK = "text-generation"


@click.command()
@finetuning_options(batch_size=4, lr=2e-4, weight_decay=0.0, warmup=0.1)
@click.option("--length", type=click.IntRange(min=2), default=512, show_default=True, help="Tokens of a block of examples.")
@click.option("--lora", type=click.IntRange(min=1), metavar="RANK", help="Train an adapter of that rank and nothing else.")
@click.option("--dora", is_flag=True, help="Let the adapter learn the length of rows as well.")
@click.option("--target", "targets", multiple=True, default=("attention", "mlp"), show_default=True, help="What it adapts.")
def finetune(asked: Request, length: int, lora: int | None, dora: bool, targets: Sequence[str]) -> None:
    """Tune MODEL to answer as the examples do."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn: the tokens of answers, in blocks of examples.
    splits = read_splits(partial(datasets.load, data, **trusted), recipe.seed)
    form = form_of(splits.train.column_names, data)
    answer: Any = loading.load_for(asked.model, TASK, **trusted)
    examples = [[example_of(row, form, answer) for row in rows] for rows in splits.there()]
    train, validation = (fill_blocks(some, length) for some in examples[:2])
    tokens = [sum(len(example.tokens) for example in block) for block in train]
    learned = described(splits, lengths=[len(example.tokens) for example in examples[0]])
    learned += f"\n{len(train)} blocks of up to {length} tokens, {sum(tokens):,} in all"
    click.echo(f"{data}: {learned}", err=True)
    facts = {"rows": len(splits.train), "length": length, "lora": lora, "dora": dora}
    run = Run(asked, answer, {**facts, "targets": targets})
    run.begin()

    # The weights that learn, the steps, and the state that validation finds best.
    if lora:
        add_adapter(answer.net, lora, dora=dora, targets=targets)
    order = Order.of(recipe, len(train), weights=[sum(example.learned for example in block) for block in train])
    tuning = Answering(answer.net, recipe=recipe, steps=order.steps, name_of=blocks_named(train, answer.rules))
    learning, validating = (Batches(rows, PackedBlocks()) for rows in (train, validation))
    fitted = fit(tuning, learning, validating, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
