"""`bestiary map`: a model over many inputs, into parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bestiary.cli.output import Column, clean, emit_json, emit_records
from bestiary.cli.session import Session, complete_name, shared_options, trust_options
from bestiary.errors import InputError

COLUMNS = (
    Column("folder"), Column("rows"), Column("failed"), Column("parts"), Column("kept"),
    Column("seconds", lambda seconds: f"{seconds:.1f}"),
)  # fmt: skip
RAY = ("concurrency", "cpus_per_worker", "gpus_per_worker", "address")  # options that are Ray's alone


@click.command()
@click.argument("model", shell_complete=complete_name)
@click.argument("input")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Where a table has the input; once for each part of it.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help="An option of the model's call: top=1.")
@click.option("--batch-size", type=click.IntRange(1), help="Inputs that are computed at once, if not what the task takes.")
@click.option("--part-size", type=click.IntRange(1), help="Inputs of a file of the output.  [default: 1024]")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Who spreads the work.")
@click.option("--concurrency", type=click.IntRange(1), help="ray: workers at once, if not as many as there is room for.")
@click.option("--cpus-per-worker", type=click.FloatRange(0), help="ray: CPUs of a worker.  [default: 1]")
@click.option("--gpus-per-worker", type=click.FloatRange(0), help="ray: GPUs of a worker.  [default: 0]")
@click.option("--address", help="ray: the cluster's, or auto. If not RAY_ADDRESS, a new one on this machine.")
@click.option("--precision", help="fast, fp32 (the default), bf16, fp16, int8 or int4.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--bridge", is_flag=True, help="Have transformers compute a folder or a repository that is not in the zoo.")
@trust_options
@shared_options
@click.pass_obj
def map(session: Session, /, model: str, input: str, output: Path, **choices: Any) -> None:
    """Run MODEL on every file or row of INPUT, and write the results to parquet files in the folder OUTPUT.

    INPUT is a folder of images or of texts (.txt), or tables: a csv, tsv, jsonl or parquet file, a folder of them, or a
    pattern. The same command takes up a run that was stopped.

    Inputs that fail are named in _failures.jsonl. The exit code is 0 all the same, with a warning; 11 if none succeeded.
    """
    engine = _engine(choices)
    options = dict(_option(text) for text in choices.pop("options"))
    given = {name: value for name in ("batch_size", "part_size") if (value := choices.pop(name)) is not None}

    from bestiary.hub.progress import Silent
    from bestiary.mapping import map_files

    given |= {"offline": session.offline or None, "home": session.home, "progress": Silent() if session.quiet else None}
    done = map_files(model, input, output, options=options, engine=engine, **given, **choices)
    if done.failed and not done.rows:
        raise InputError(f"none of the {done.failed} inputs could be mapped\nsee {done.failures} for the reasons")
    record = {**done._asdict(), "folder": str(done.folder)}
    if session.json:
        emit_json({"summary": record})
    else:
        emit_records(session, "summary", COLUMNS, [record])
    if done.failed:
        warning = f"warning: {done.failed} of {done.rows + done.failed} inputs failed, see {done.failures}"
        click.echo(clean(warning), err=True)


def _engine(choices: dict[str, Any]) -> Any:
    given = {name: value for name in RAY if (value := choices.pop(name)) is not None}
    if choices.pop("engine") == "ray":
        from bestiary.mapping import Ray

        return Ray(**given)
    if given:
        raise click.UsageError(f"--{next(iter(given)).replace('_', '-')} is for --engine ray")
    return None


def _option(text: str) -> tuple[str, Any]:
    """An option as it was typed: NAME=VALUE, the value in JSON, or a text.

    >>> _option("top=1"), _option("prompt=query")
    (('top', 1), ('prompt', 'query'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text!r} has no value: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
