"""Evaluate a model on labelled data: the numbers of its card, or those on data of your own.

    bestiary evaluate efficientnet-lite0 --data photos/ --split validation
    bestiary evaluate ./my-classifier --data openmoji --precision fp32 --precision bf16
    bestiary evaluate whisper-tiny.en --data telephone-prompts --split en
    python scripts/evaluate.py smollm2-135m-instruct --data essay.txt --split train --join --json

The data is what fine-tuning takes: a file, a folder, `hf:owner/repo`, or the name of a card in model_cards/datasets. Which
columns it needs, and what is measured, say the functions in bestiary/vision/evaluation.py, bestiary/text/evaluation.py and
bestiary/audio/evaluation.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from bestiary.cli import run_command
from bestiary.cli.output import Column, emit_json, emit_records, emit_table
from bestiary.cli.session import Session, complete_name, shared_options, trust_options
from bestiary.errors import InputError

SPLITS = ("test", "validation")  # where none is asked for, the first of these that there is
COLUMNS = ("image", "audio", "text", "label")  # that the loaders of data sets themselves take by other names

LOADERS = {  # of each medium the module that loads its data sets, and what it lets one choose
    "audio": ("bestiary.audio.datasets", ("audio", "text", "label", "errors")),
    "image": ("bestiary.vision.datasets", ("image", "label", "size", "errors")),
    "text": ("bestiary.text.datasets", ("text", "label")),
}


@click.command()
@click.argument("model", shell_complete=complete_name)
@click.option("--data", required=True, metavar="PATH|NAME", help="A folder or file of data, or the name of a data set.")
@click.option("--split", help="Of the data; test if there is one, else validation.")
@click.option("--held-out", type=int, metavar="SEED", help="The rows of train that fine-tuning by that seed validates on.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@click.option("--precision", multiple=True, help="fp32 (the default), bf16, fp16, fast, int8, int4; several for a row of each.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Inputs that are computed at once.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--image", help="The column of images or of their paths, if not image.")
@click.option("--audio", help="The column of sounds or of their paths, if not audio.")
@click.option("--text", help="The column of texts, if not text.")
@click.option("--label", help="The column of labels, if not label.")
@click.option("--column", multiple=True, metavar="OURS=THEIRS", help="Any other column that the task needs, by its name there.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows that hold this.")
@click.option("--size", type=click.IntRange(min=1), help="Pixels of a side of images that are drawn, as those of openmoji.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), help="At images or sounds that cannot be read.")
@click.option("--match", type=click.Choice(["names", "numbers"]), help="How the data's classes are those of the model.")
@click.option("--language", metavar="CODE", help="What is spoken, for a speech recogniser: en, fr; found out if not given.")
@click.option("--window", type=int, help="Tokens that a language model reads at once.")
@click.option("--join", is_flag=True, default=None, help="For a language model: the rows are lines of one text.")
@click.option("--classes", is_flag=True, help="Print a row for each class instead.")
@trust_options
@shared_options
@click.pass_obj
def evaluate(
    session: Session, /, model: str, data: str, split: str | None, held_out: int | None, limit: int | None,
    precision: tuple[str, ...], device: str, classes: bool, trust: str | None, lock: str, accept_license: bool, **choices: Any,
) -> None:  # fmt: skip
    """Evaluate MODEL on labelled data, and print its metrics, the main one first."""
    from bestiary import evaluation, loading
    from bestiary.core.evaluation import silent
    from bestiary.core.task import weights_of

    trusted: dict[str, Any] = {"trust": trust, "lock": lock, "accept_license": accept_license}
    trusted |= {"offline": session.offline or None, "home": session.home}
    measured = {name: choices.pop(name) for name in ("match", "language", "window", "join")}
    options = {name: value for name, value in {**measured, "batch_size": choices.pop("batch_size")}.items() if value is not None}
    rows, records = None, []
    for name in precision or (None,):
        task = loading.load(model, precision=name, device=device, **trusted)
        if rows is None:
            evaluation.find_evaluation(task.card.task)
            split, rows = load_rows(task.medium, data, split, held_out, choices, trusted)
            there = len(rows)
            rows = rows.select(range(min(limit or there, there)))
            some = f"{there} rows" if len(rows) == there else f"the first {len(rows)} of {there} rows"
            click.echo(f"{model} on {data}, {split}: {some}", err=True)
        shown = {"progress": silent} if session.quiet else {}
        found = evaluation.evaluate(task, rows, **options, **shown)
        asked = {"split": split, "held_out": held_out, "limit": limit, "precision": name, **measured, **choices, "trust": trust}
        records.append(
            {
                "precision": name or "fp32",
                **{key: value for key, value in vars(found).items() if key != "confused"},
                "confused": [mistake._asdict() for mistake in found.confused],
                "model": model,
                "weights": weights_of(task.provenance),
                "dataset": data,
                "split": split,
                "of_rows": there,
                "command": evaluation.command_line(model, data, asked),
            }
        )
    emit(session, records, classes)


def load_rows(
    medium: str,
    data: str,
    split: str | None,
    held_out: int | None,
    choices: Mapping[str, Any],
    trusted: Mapping[str, Any],
) -> tuple[str, Any]:
    """The rows of the split asked for, or of the first of SPLITS, and its name; of train perhaps those that are held out."""
    from bestiary.core.tables import UnknownSplit, renamed, where
    from bestiary.core.tuning.data import read_splits

    module, taken = LOADERS[medium]
    load: Any = import_module(module).load
    given = {name: value for name, value in choices.items() if value is not None and name not in ("column", "where")}
    if unknown := [name for name in given if name not in taken]:
        raise InputError(f"--{unknown[0]} has no meaning for a model of {medium}s\nleave it out")
    columns = dict(_column(pair) for pair in choices["column"])
    given |= {name: columns.pop(name) for name in COLUMNS if name in columns}

    def read(name: str) -> Any:
        return where(renamed(load(data, name, **given, **trusted), columns, data), choices["where"], data)

    if held_out is not None:
        if split not in (None, "train"):
            raise InputError(f"rows are held out of train, not of {split}\nleave --split out")
        splits = read_splits(read, held_out)
        if not splits.held_out:
            raise InputError(f"{data} has rows for validation, none are held out of train\nleave --held-out out")
        return "train", splits.validation
    for name in SPLITS if split is None else (split,):
        try:
            return name, read(name)
        except UnknownSplit as error:
            reason = error
    raise reason if split is not None else InputError(f"{reason}\nsay with --split on which of them")


def _column(pair: str) -> tuple[str, str]:
    ours, equals, theirs = pair.partition("=")
    if not (ours and equals and theirs):
        raise InputError(f"--column {pair} does not name a column\nsay what the task calls it, then the data: positive=answer")
    return ours, theirs


def emit(session: Session, records: Sequence[Mapping[str, Any]], classes: bool) -> None:
    """A row for each precision, or for each class in each; on a terminal the most frequent mistakes below."""
    if session.json:
        emit_json({"evaluations": records})
        return
    rows = list(_class_rows(records) if classes else _rows(records))
    keys = list(dict.fromkeys(key for row in rows for key in row))
    emit_records(session, "rows", [Column(key, _rounded) for key in keys], [{**dict.fromkeys(keys), **row} for row in rows])
    mistakes = [(record["precision"], *mistake.values()) for record in records for mistake in record["confused"][:10]]
    if mistakes and sys.stdout.isatty() and not (classes or session.quiet):
        click.echo("\nthe most frequent mistakes")
        emit_table(["precision", "actual", "answered", "rows"], mistakes)


def _rows(records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    return ({"precision": record["precision"], **record["metrics"], "rows": record["rows"]} for record in records)


def _class_rows(records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        for name, metrics in record["classes"].items():
            yield {"class": name, "precision of weights": record["precision"], **metrics}


def _rounded(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(run_command(evaluate))
