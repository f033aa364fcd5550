"""Fine-tune a speech recogniser, Whisper or a net of letters, on recordings of your own and what is said in them.

    bestiary finetune whisper-tiny.en --data calls/ --output my-recogniser
    python scripts/finetune_speech.py whisper-tiny.en --data telephone-prompts --where language=en --epochs 1
    python scripts/finetune_speech.py wav2vec2-base-960h --data librispeech --lr 3e-5 --trust first-use

The data is a folder with tables of paths and texts (train.csv, test.csv), such a table, a parquet with the sounds in it,
`hf:owner/repo`, or the name of a card in model_cards/datasets. What is too long to be heard at once, or cannot be written in the
letters of the model, is left out.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from bestiary import loading
from bestiary.audio import datasets
from bestiary.audio.finetuning import PRESETS
from bestiary.audio.finetuning_speech import Transcription, Transcripts, taught, teacher_of
from bestiary.cli import run_command
from bestiary.cli.recipe import finetuning_options
from bestiary.core.media import path_of
from bestiary.core.tables import where
from bestiary.core.tuning.data import described, read_splits
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.finetuned import Request, Run

TASK = "speech-recognition"


@click.command()
@finetuning_options(batch_size=8, lr=1e-5, weight_decay=0.0, warmup=0.1)
@click.option("--augment", type=click.Choice(list(PRESETS)), default="light", show_default=True, help="How sounds are changed.")
@click.option("--language", metavar="CODE", help="What is spoken, for a model of several languages, if no column says so.")
@click.option("--where", "conditions", multiple=True, metavar="COLUMN=VALUE", help="Only rows that hold this.")
@click.option("--audio", default="audio", show_default=True, help="The column of sounds or of their paths.")
@click.option("--text", default="text", show_default=True, help="The column of what is said.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), default="raise", show_default=True, help="At corrupt sounds.")
def finetune(asked: Request, augment: str, language: str | None, conditions: tuple[str, ...], **reading: Any) -> None:
    """Fine-tune MODEL to write down what is said."""
    data, recipe, trusted = asked.data, asked.recipe, asked.trusted
    # What there is to learn: the tokens of what is said, of sounds that are heard at once.
    load: Any = partial(datasets.load, data, **reading, **trusted)
    splits = read_splits(lambda split: where(load(split), conditions, data), recipe.seed)
    recognise: Any = loading.load_for(asked.model, TASK, **trusted)
    teacher = teacher_of(recognise)
    (train, left_out), (validation, _) = (taught(rows, teacher, language) for rows in splits[:2])
    learned = described(splits, lengths=[len(tokens) for tokens in train["tokens"]])
    learned += f"\n{len(left_out)} rows left out; {left_out[0]}" if left_out else ""
    click.echo(f"{data}: {learned}", err=True)
    facts = {"rows": len(train), "augment": augment, "language": language, "where": conditions, **reading}
    run = Run(asked, recognise, facts)
    run.begin()

    # The batches, the steps, and the state that validation finds best.
    order = Order.of(recipe, len(train))
    how: dict[str, Any] = {"recipe": recipe, "steps": order.steps, "name_of": path_of(train, "audio")}
    tuning = Transcription(recognise.net, teacher, PRESETS[augment], **how)
    learning, validating = Batches(train, Transcripts(teacher, PRESETS[augment])), Batches(validation, Transcripts(teacher))
    fitted = fit(tuning, learning, validating, order, run.training, resume=asked.resume)

    # A folder that `bestiary.load` takes, with the metrics that `bestiary evaluate` gives again.
    run.finish(fitted, splits, learned, language=language, where=conditions, **reading)


if __name__ == "__main__":
    sys.exit(run_command(finetune))
