"""`bestiary verify`: hash every file of a model again, now, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bestiary.cli.output import Column, as_size, emit_records
from bestiary.cli.session import Session, complete_name, shared_options
from bestiary.errors import IntegrityError, OfflineError, SourceError

if TYPE_CHECKING:
    from bestiary.hub.card import Card, File
    from bestiary.hub.store import Store

COLUMNS = (Column("model"), Column("file"), Column("size", as_size), Column("state"), Column("path"))


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@shared_options
@click.pass_obj
def verify(session: Session, names: tuple[str, ...]) -> None:
    """Hash the files of models again, all of them and now: sound, rotten, absent, or unpinned where the card has no digest.

    Downloads nothing. A rotten file of the store goes into quarantine, and the exit code is 5; with an absent one it is 7.
    """
    cards = [session.registry.card(name) for name in names]
    records = [record for card in cards for record in _examine(session, card)]
    emit_records(session, "files", COLUMNS, records)
    for state, kind, advice in (("rotten", IntegrityError, "fetches it again"), ("absent", SourceError, "fetches it")):
        if bad := [record for record in records if record["state"] == state]:
            models = " ".join(dict.fromkeys(record["model"] for record in bad))
            files = ", ".join(record["file"] for record in bad[:3]) + (", …" if len(bad) > 3 else "")
            raise kind(f"{state}: {files}\n`bestiary pull {models}` {advice}")


def _examine(session: Session, card: Card) -> Iterator[dict[str, Any]]:
    """The state of each file of a model, and of what was converted from it."""
    entries = session.store.entries()
    for file in card.files:
        with session.hashing(file.name, file.size):
            state, path = _state(session, card, file)
        yield _record(card, file.name, file.size, state, path)
        for entry in entries:
            if entry.source and entry.source == file.sha256:
                name = f"{file.name}, converted"
                with session.hashing(name, entry.size):
                    state, path = _state_of_blob(session.store, entry.sha256, entry.size)
                yield _record(card, name, entry.size, state, path)


def _record(card: Card, name: str, size: int | None, state: str, path: Path | None) -> dict[str, Any]:
    return {"model": card.name, "file": name, "size": size, "state": state, "path": path and str(path)}


def _state(session: Session, card: Card, file: File) -> tuple[str, Path | None]:
    """Of a file in the store, or else where a source that needs no network has it."""
    from bestiary.hub.fetch import fetch

    if file.sha256 is None or file.size is None:
        return "unpinned", None
    if session.store.holds(file.sha256):
        return _state_of_blob(session.store, file.sha256, file.size)
    try:
        return "sound", fetch(card, session.settings, files=[file], offline=True, verify="always")[file.name].path
    except IntegrityError:
        return "rotten", None
    except (OfflineError, SourceError):
        return "absent", None


def _state_of_blob(store: Store, sha256: str, size: int) -> tuple[str, Path | None]:
    path = store.find(sha256, size, verify="always")
    return "sound" if path else "rotten", path
