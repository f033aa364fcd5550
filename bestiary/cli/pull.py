"""`bestiary pull`: bring the files of models here, verified, without loading them."""

from __future__ import annotations

import click

from bestiary.cli.output import Column, as_size, emit_records
from bestiary.cli.session import Session, complete_name, shared_options
from bestiary.errors import InputError, LicenseError

COLUMNS = (Column("model"), Column("file"), Column("size", as_size), Column("origin"), Column("path"))


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("--accept-license", is_flag=True, help="Accept the licence of a model that asks for it.")
@shared_options
@click.pass_obj
def pull(session: Session, names: tuple[str, ...], accept_license: bool) -> None:
    """Download and verify the files of models, and tell where the bytes came from; what is here already is only verified."""
    from bestiary.hub.fetch import fetch

    cards = [session.registry.card(name) for name in names]  # a misspelt name is an error before the first download
    for card in cards:
        if card.accept_license and not accept_license:
            raise LicenseError(f"the licence of {card.name}, {card.license}, has to be accepted\nread it, add --accept-license")
        if not card.pinned:
            raise InputError(f"nothing pins the files of {card.name} yet\n`bestiary run {card.name} … --trust first-use` does")
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
        for name, fetched in fetch(card, session.settings, progress=session.progress).items()
    ]
    emit_records(session, "files", COLUMNS, records)
