"""`bestiary cache`: what the store holds, what that takes, and how to get rid of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bestiary.cli.output import Column, as_size, emit_records
from bestiary.cli.session import Session, complete_name, shared_options
from bestiary.errors import IntegrityError, UnknownModel

if TYPE_CHECKING:
    from bestiary.hub.store import Entry

Command = TypeVar("Command", bound=Callable[..., Any])

SHORTEST_DIGEST = 8  # digits that name a file on the command line; fewer are too easily another one's


def _short(sha256: str) -> str:
    return sha256[:12]


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


ENTRY_COLUMNS = (
    Column("sha256", _short), Column("size", as_size), Column("kind"), Column("used", _day), Column("models"), Column("origin"),
)  # fmt: skip


@click.group()
def cache() -> None:
    """Look after the store of downloaded files."""


def _deleting(command: Command) -> Command:
    """The two options of a verb that deletes."""
    yes = click.option("--yes", "-y", is_flag=True, help="Delete without a question.")
    dry_run = click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
    return dry_run(yes(command))


@cache.command()
@shared_options
@click.pass_obj
def ls(session: Session) -> None:
    """List the files of the store: digest, size, last use, the models that name them, where they came from."""
    emit_records(session, "files", ENTRY_COLUMNS, _entry_records(session, session.store.entries()))


@cache.command()
@shared_options
@click.pass_obj
def df(session: Session) -> None:
    """Say how much the store takes."""
    usage = session.store.usage()
    records = [{"kind": kind, "size": size} for kind, size in {**usage, "total": sum(usage.values())}.items()]
    emit_records(session, "usage", (Column("kind"), Column("size", as_size)), records)


@cache.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@_deleting
@shared_options
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Delete the files of models, or single files.

    A NAME is that of a model, or the digest of a file, of which the first eight digits are enough. What was converted from a
    file goes with it; what another model shares is downloaded again when that one is loaded.
    """
    _check_consent(dry_run, yes)
    stored = {entry.sha256: entry for entry in session.store.entries()}
    named = {digest for name in names for digest in _digests(session, name, stored)}
    records = _entry_records(session, [entry for entry in stored.values() if named & {entry.sha256, entry.source}])
    emit_records(session, "files", ENTRY_COLUMNS, records)
    if _agreed(records, dry_run, yes):
        for digest in named:
            session.store.remove(digest)


@cache.command()
@_deleting
@shared_options
@click.pass_obj
def prune(session: Session, dry_run: bool, yes: bool) -> None:
    """Delete what no load needs: old unfinished downloads, quarantined files, conversions of files that are gone.

    With a cache limit set (BESTIARY_CACHE_LIMIT), also the files that were not used for longest, until the rest keeps it.
    """
    _check_consent(dry_run, yes)
    garbage = session.store.garbage()
    surplus = _surplus(session.store.entries(), session.settings.cache_limit)
    records = [{"path": str(item.path), "size": item.size, "reason": item.reason} for item in garbage]
    records += [{"path": str(entry.path), "size": entry.size, "reason": "over the cache limit"} for entry in surplus]
    emit_records(session, "files", (Column("path"), Column("size", as_size), Column("reason")), records)
    if _agreed(records, dry_run, yes):
        session.store.prune(garbage)
        for entry in surplus:
            session.store.remove(entry.sha256)


@cache.command()
@shared_options
@click.pass_obj
def verify(session: Session) -> None:
    """Hash every file of the store again; one that rotted goes into quarantine."""
    records = []
    for entry in session.store.entries():
        with session.hashing(_short(entry.sha256), entry.size):
            sound = session.store.find(entry.sha256, entry.size, verify="always") is not None
        records.append({"sha256": entry.sha256, "size": entry.size, "state": "sound" if sound else "rotten"})
    emit_records(session, "files", (Column("sha256", _short), Column("size", as_size), Column("state")), records)
    if rotten := [record["sha256"] for record in records if record["state"] == "rotten"]:
        raise IntegrityError(
            f"{len(rotten)} of {len(records)} files in {session.settings.home} had rotted and are in quarantine now.\n"
            "The next load or `bestiary pull` fetches them again."
        )


def _entry_records(session: Session, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries with the names of the models whose cards name them."""
    models: dict[str, list[str]] = {}
    for card in session.registry.cards():
        for file in card.files:
            models.setdefault(file.sha256 or "", []).append(card.name)
    return [
        {
            "sha256": entry.sha256,
            "size": entry.size,
            "kind": entry.kind,
            "used": entry.used,
            "models": models.get(entry.source or entry.sha256, []),
            "origin": entry.origin,
            "path": str(entry.path),
        }
        for entry in entries
    ]


def _digests(session: Session, name: str, stored: Mapping[str, Entry]) -> list[str]:
    """The stored files that a name on the command line means."""
    if len(name) >= SHORTEST_DIGEST and (found := [digest for digest in stored if digest.startswith(name)]):
        if len(found) > 1:
            raise UnknownModel(f"{name} begins the digests of {len(found)} files\n`bestiary cache ls --json` prints them whole")
        return found
    return [file.sha256 for file in session.registry.card(name).files if file.sha256 and file.sha256 in stored]


def _surplus(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """The least recently used entries beyond `limit` bytes."""
    if limit is None:
        return []
    kept = 0
    surplus = []
    for entry in sorted(entries, key=lambda entry: entry.used, reverse=True):
        kept += entry.size
        if kept > limit:
            surplus.append(entry)
    return surplus


def _check_consent(dry_run: bool, yes: bool) -> None:
    """Refuse, before anything is printed, what could neither be asked nor was agreed to."""
    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("nobody can be asked here: add --yes to delete, or --dry-run to see what would be deleted")


def _agreed(records: Sequence[Mapping[str, Any]], dry_run: bool, yes: bool) -> bool:
    """Whether to delete what has just been listed: said so beforehand, or asked on the terminal."""
    if not records:
        click.echo("nothing to delete", err=True)
    if dry_run or not records:
        return False
    size = as_size(sum(record["size"] for record in records))
    return yes or click.confirm(f"Delete these {len(records)}, {size}?", err=True)
