"""`bestiary pull`: bring the files of models and of data sets here, verified, without loading them."""

from __future__ import annotations

import click

from bestiary.cli.output import Column, as_size, emit_records
from bestiary.cli.session import Session, complete_name, shared_options, trust_options

COLUMNS = (Column("model"), Column("file"), Column("size", as_size), Column("origin"), Column("path"))


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@trust_options
@shared_options
@click.pass_obj
def pull(session: Session, names: tuple[str, ...], trust: str | None, lock: str, accept_license: bool) -> None:
    """Download and verify the files of models and data sets, and tell where they came from; what is here is only verified."""
    from bestiary.hub.lock import Lock
    from bestiary.hub.trust import Trust

    agreed = Trust(lock=Lock(lock), first_use=trust == "first-use", accept_license=accept_license)
    cards = [session.card(name) for name in names]  # a misspelt name is an error before the first download
    records = [
        {
            "model": card.name,
            "file": name,
            "size": fetched.file.size,
            "sha256": fetched.file.sha256,
            "origin": fetched.origin,
            "path": str(fetched.path),
        }
        for card in cards
        for name, fetched in agreed.fetch(card, session.settings, session.progress).items()
    ]
    emit_records(session, "files", COLUMNS, records)
