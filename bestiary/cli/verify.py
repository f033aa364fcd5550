"""`bestiary verify`: hash every file of a model again, now, wherever it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bestiary.cli.output import Column, as_size, emit_records
from bestiary.cli.session import Session, complete_name, shared_options
from bestiary.errors import IntegrityError, OfflineError, SourceError

if TYPE_CHECKING:
    from bestiary.hub.card import Card, File

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
    records = []
    for card in cards:
        for file in card.files:
            with session.hashing(file.name, file.size):
                records.append(_examine(session, card, file))
    emit_records(session, "files", COLUMNS, records)
    for state, kind, advice in (("rotten", IntegrityError, "fetches it again"), ("absent", SourceError, "fetches it")):
        if bad := [record for record in records if record["state"] == state]:
            models = " ".join(dict.fromkeys(record["model"] for record in bad))
            files = ", ".join(record["file"] for record in bad[:3]) + (", …" if len(bad) > 3 else "")
            raise kind(f"{state}: {files}\n`bestiary pull {models}` {advice}")


def _examine(session: Session, card: Card, file: File) -> dict[str, Any]:
    """The state of one file: in the store, or else where a source that needs no network has it."""
    from bestiary.hub.fetch import fetch

    record = {"model": card.name, "file": file.name, "size": file.size, "sha256": file.sha256}
    if file.sha256 is None or file.size is None:
        return {**record, "state": "unpinned", "path": None}
    if (session.store.blobs / file.sha256).exists():
        path = session.store.find(file.sha256, file.size, verify="always")
        return {**record, "state": "sound" if path else "rotten", "path": path and str(path)}
    try:
        fetched = fetch(card, session.settings, files=[file], offline=True, verify="always")[file.name]
    except IntegrityError:
        return {**record, "state": "rotten", "path": None}
    except (OfflineError, SourceError):
        return {**record, "state": "absent", "path": None}
    return {**record, "state": "sound", "path": str(fetched.path)}
