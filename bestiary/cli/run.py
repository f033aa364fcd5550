"""`bestiary run`: a model on inputs, whatever its task."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from bestiary.cli.output import emit
from bestiary.cli.session import Session, complete_name, shared_options, trust_options


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.argument("inputs", nargs=-1, required=True)
@click.option("--precision", help="fast, fp32 (the default), bf16, fp16, int8 or int4.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--bridge", is_flag=True, help="Have transformers compute a folder or a repository that is not in the zoo.")
@trust_options
@shared_options
@click.pass_obj
def run(session: Session, /, name: str, inputs: tuple[str, ...], **choices: Any) -> None:
    """Run the model NAME on INPUTS: texts or files, as its task asks; - reads them from stdin, one a line."""
    items = list(_read(inputs))
    from bestiary.loading import load

    task = load(name, offline=session.offline or None, home=session.home, **choices)
    report = task.report(items)
    emit(session, "results", report.columns, report.rows, report.records)


def _read(inputs: Iterable[str]) -> Iterator[str]:
    for item in inputs:
        if item == "-":
            yield from (line.rstrip("\n") for line in sys.stdin)
        else:
            yield item
