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
    help="Draw what was found in images and write the picture: out.png, and of several inputs out-1.png, out-2.png and so on.",
)
@trust_options
@shared_options
@click.pass_obj
def run(session: Session, /, name: str, inputs: tuple[str, ...], save: Path | None, **choices: Any) -> None:
    """Run the model NAME on INPUTS: texts or files, as its task asks; - reads them from stdin, one a line."""
    items = list(_read(inputs))
    if save is not None:
        _check_picture(save)
    from bestiary.loading import load

    task = load(name, offline=session.offline or None, home=session.home, **choices)
    report = task.report(items)
    if save is not None:
        _draw(report.results, save, name)
    emit(session, "results", report.columns, report.rows, report.records)


def _check_picture(path: Path) -> None:
    """Raise InputError, before anything is computed, for what cannot become a picture."""
    from PIL import Image

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path} does not end like a picture\ngive a name such as out.png or out.jpg")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} to\nmake it first, or give another")


def _draw(results: Sequence[Any], path: Path, name: str) -> None:
    """Write a picture of each result, numbered where there are several."""
    if not results:
        raise InputError(f"there is nothing to draw in what {name} answers\nleave --save out")
    for number, result in enumerate(results, start=1):
        numbered = path if len(results) == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            result.plot().save(numbered)
        except (OSError, ValueError) as error:  # ValueError: a format that does not take such pictures
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{numbered} cannot be written: {reason}\ngive another file") from None


def _read(inputs: Iterable[str]) -> Iterator[str]:
    for item in inputs:
        if item == "-":
            yield from (line.rstrip("\n") for line in sys.stdin)
        else:
            yield item
