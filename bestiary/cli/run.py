"""`bestiary run`: a model on inputs, whatever its task."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bestiary.cli.output import emit
from bestiary.cli.session import Session, complete_name, shared_options, trust_options
from bestiary.errors import InputError


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.argument("inputs", nargs=-1, required=True)
@click.option("--precision", help="fast, fp32 (the default), bf16, fp16, int8 or int4.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--bridge", is_flag=True, help="Have transformers compute a folder or a repository that is not in the zoo.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what was found to a file: a picture of it (out.png), or a transcript (out.srt, .vtt, .json, .txt). Of several "
    "inputs to out-1.png, out-2.png and so on.",
)
@trust_options
@shared_options
@click.pass_obj
def run(session: Session, /, name: str, inputs: tuple[str, ...], save: Path | None, **choices: Any) -> None:
    """Run the model NAME on INPUTS: texts or files, as its task asks; - reads them from stdin, one a line."""
    items = list(_read(inputs))
    if save is not None:
        _check_place(save)
    from bestiary.loading import load

    task = load(name, offline=session.offline or None, home=session.home, **choices)
    report = task.report(items)
    if save is not None:
        _write(report.results, save, name)
    emit(session, "results", report.columns, report.rows, report.records)


def _check_place(path: Path) -> None:
    """Raise InputError, before anything is computed, for what can be neither a picture nor a transcript."""
    from PIL import Image

    from bestiary.audio.recognition.transcript import WRITERS

    ending = path.suffix.lower()
    if Image.registered_extensions().get(ending) not in Image.SAVE and ending.removeprefix(".") not in WRITERS:
        raise InputError(f"{path} ends like no picture and no transcript\ngive a name such as out.png, out.jpg or out.srt")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} to\nmake it first, or give another")


def _write(results: Sequence[Any], path: Path, name: str) -> None:
    """Write a file of each result, numbered where there are several: by itself where it can, else its picture."""
    if not results:
        raise InputError(f"there is nothing to write in what {name} answers\nleave --save out")
    for number, result in enumerate(results, start=1):
        numbered = path if len(results) == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            (result if hasattr(result, "save") else result.plot()).save(numbered)
        except (OSError, ValueError) as error:  # ValueError: a format that does not take such pictures
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{numbered} cannot be written: {reason}\ngive another file") from None


def _read(inputs: Iterable[str]) -> Iterator[str]:
    for item in inputs:
        if item == "-":
            yield from (line.rstrip("\n") for line in sys.stdin)
        else:
            yield item
