"""`bestiary ls`, `search` and `show`: what cards say, and which of their files the store holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from bestiary.cli.output import Column, as_size, as_text, clean, console, emit_json, emit_records, emit_table, write_lines
from bestiary.cli.session import Session, complete_name, shared_options
from bestiary.hub.records import BaseCard, DatasetCard

if TYPE_CHECKING:
    from bestiary.hub.card import Card, SourceSpec
    from bestiary.hub.store import Entry

COLUMNS = (Column("name"), Column("task"), Column("size", as_size), Column("license"), Column("checked"), Column("stored"))
DATASET_COLUMNS = (
    Column("name"), Column("tasks"), Column("splits"), Column("size", as_size), Column("license"), Column("stored"),
)
FILE_COLUMNS = (Column("name"), Column("role"), Column("size", as_size), Column("sha256"), Column("stored"), Column("origin"))


@click.command()
@click.argument("pattern", required=False, shell_complete=complete_name)
@click.option("--task", help="Only those for this task, such as text-embedding.")
@click.option("--datasets", is_flag=True, help="List the data sets instead.")
@shared_options
@click.pass_obj
def ls(session: Session, pattern: str | None, task: str | None, datasets: bool) -> None:
    """List the models there are: all, or those whose name matches PATTERN (* and ? stand for others; else a part of the name)."""
    if datasets:
        found = [card for card in session.datasets.cards() if _matches(card.name, pattern) and task in (None, *card.tasks)]
        _emit_datasets(session, found)
        return
    cards = [card for card in session.registry.cards() if _matches(card.name, pattern) and task in (None, card.task)]
    _emit_cards(session, cards)


@click.command()
@click.argument("words", nargs=-1, required=True)
@shared_options
@click.pass_obj
def search(session: Session, words: tuple[str, ...]) -> None:
    """Find models by WORDS of their names, tasks, tags and texts, the best first."""
    _emit_cards(session, session.registry.search(" ".join(words)))


@click.command()
@click.argument("name", shell_complete=complete_name)
@shared_options
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show the card of the model or data set NAME: its facts, its files and their sources, and what was written about it."""
    card = session.card(name)
    files = _file_records(card, _stored(session))
    if session.json:
        kind = "dataset" if isinstance(card, DatasetCard) else "model"
        emit_json({kind: {**asdict(card), "path": str(card.path), "size": card.size, "files": files}})
    elif session.quiet:
        write_lines([[card.name]])
    elif sys.stdout.isatty():
        _show_person(card, files)
    else:
        write_lines(_facts(card).items())
        write_lines(["source", _source(source)] for source in card.sources)
        write_lines(["file", *(record[column.key] for column in FILE_COLUMNS)] for record in files)


def _matches(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    return fnmatchcase(name, pattern) if set(pattern) & set("*?[") else pattern in name


def _stored(session: Session) -> Mapping[str, Entry]:
    return {entry.sha256: entry for entry in session.store.entries()}


def _emit_cards(session: Session, cards: list[Card]) -> None:
    if not cards:
        click.echo("no model matches", err=True)
    stored = _stored(session)
    records = [
        {
            "name": card.name,
            "version": card.version,
            "task": card.task,
            "architecture": card.architecture,
            "size": card.size,
            "license": card.license,
            "language": card.language,
            "tags": card.tags,
            "checked": card.checked,
            "pinned": card.pinned,
            "stored": all(file.sha256 in stored for file in card.files),
        }
        for card in cards
    ]
    emit_records(session, "models", COLUMNS, records)


def _emit_datasets(session: Session, cards: list[DatasetCard]) -> None:
    if not cards:
        click.echo("no data set matches", err=True)
    stored = _stored(session)
    records = [
        {
            "name": card.name,
            "version": card.version,
            "tasks": card.tasks,
            "splits": {name: split.rows for name, split in card.splits.items()},
            "size": card.size,
            "license": card.license,
            "language": card.language,
            "tags": card.tags,
            "pinned": card.pinned,
            "stored": all(file.sha256 in stored for file in card.files),
        }
        for card in cards
    ]
    emit_records(session, "datasets", DATASET_COLUMNS, records)


def _file_records(card: BaseCard, stored: Mapping[str, Entry]) -> list[dict[str, Any]]:
    records = []
    for file in card.files:
        entry = stored.get(file.sha256 or "")
        place = {"path": str(entry.path), "origin": entry.origin} if entry else {"path": None, "origin": None}
        records.append({**asdict(file), "stored": entry is not None, **place})
    return records


def _facts(card: Card | DatasetCard) -> dict[str, object]:
    """What a card says in its front matter, but for files and sources."""
    facts = _dataset_facts(card) if isinstance(card, DatasetCard) else _model_facts(card)
    return {key: value for key, value in facts.items() if value not in (None, "", (), [], {})}


def _dataset_facts(card: DatasetCard) -> dict[str, object]:
    return {
        "name": card.name,
        "version": card.version,
        "tasks": card.tasks,
        "license": card.license,
        "language": card.language,
        "tags": card.tags,
        "format": card.format,
        "splits": {name: split.rows for name, split in card.splits.items()},
        "columns": card.columns,
        "labels": card.labels,
        "pinned": card.pinned,
        "size": card.size,
    }


def _model_facts(card: Card) -> dict[str, object]:
    return {
        "name": card.name,
        "version": card.version,
        "task": card.task,
        "license": card.license,
        "language": card.language,
        "tags": card.tags,
        "architecture": card.architecture,
        "config": card.config,
        "layout": card.layout,
        "components": tuple(card.components),
        "adapter of": card.adapter_of and card.adapter_of.name,
        "preprocess": card.preprocess,
        "labels": card.labels if card.labels is None or isinstance(card.labels, str) else f"{len(card.labels)} labels",
        "precision": card.precision,
        "metrics": [f"{metric.dataset} {metric.metric} {metric.value:g} ({metric.command})" for metric in card.metrics],
        "checked": card.checked,
        "pinned": card.pinned,
        "size": card.size,
    }


def _source(source: SourceSpec) -> str:
    return f"{source.kind} {source.address}" + (f" at {source.revision}" if source.revision else "")


def _show_person(card: Card | DatasetCard, files: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from bestiary.cli.markdown import render

    facts = _facts(card)
    if "size" in facts:
        facts["size"] = as_size(card.size)
    for number, source in enumerate(card.sources):
        facts["sources" if number == 0 else " " * number] = _source(source)
    grid = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        grid.add_row(Text(key, style="bold"), Text(clean(as_text(value))))
    terminal = console()
    terminal.print(grid)
    terminal.print()
    short = [{**record, "sha256": record["sha256"] and f"{record['sha256'][:12]}…"} for record in files]
    emit_table([column.key for column in FILE_COLUMNS], [[form(record[key]) for key, form in FILE_COLUMNS] for record in short])
    terminal.print()
    for line in render(clean(card.text).strip()):
        terminal.print(line)
