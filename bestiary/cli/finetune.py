"""`bestiary finetune`: the script of scripts/ that tunes a model of this task."""

from __future__ import annotations

from importlib import import_module

import click

from bestiary.cli.session import Session
from bestiary.errors import InputError

SCRIPTS = {
    "audio-classification": "finetune_audio_classifier",
    "image-classification": "finetune_image_classifier",
    "object-detection": "finetune_detector",
    "speech-recognition": "finetune_speech",
    "text-classification": "finetune_text_classifier",
    "text-embedding": "finetune_embedder",
    "text-generation": "finetune_language_model",
    "token-classification": "finetune_token_classifier",
}


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("model", required=False)
@click.option("--task", type=click.Choice(sorted(SCRIPTS)), help="What to tune it for, where that is not the card's own task.")
@click.option("-h", "--help", "wants_help", is_flag=True, help="Show this, or with a MODEL the options of its script.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def finetune(context: click.Context, model: str | None, task: str | None, wants_help: bool, options: tuple[str, ...]) -> None:
    """Fine-tune MODEL by the script of its task; --data says on what. A MODEL with --help shows all the options there are.

    The scripts are short programs to read, copy and change: bestiary/scripts/finetune_*.py.
    """
    if model is None:
        click.echo(context.get_help())
        return
    task = task or _task_of(context.ensure_object(Session), model)
    if task not in SCRIPTS:
        known = ", ".join(sorted(SCRIPTS))
        raise InputError(f"{model} is for {task}, which no script tunes\n--task tunes it for another: {known}")
    script: click.Command = import_module(f"bestiary.scripts.{SCRIPTS[task]}").finetune
    arguments = ["--help"] if wants_help else [model, *options]
    with script.make_context(f"bestiary finetune {model}", arguments, obj=context.obj) as inner:
        script.invoke(inner)


def _task_of(session: Session, model: str) -> str:
    from bestiary.loading import card_of

    return card_of(model, session.settings).task
