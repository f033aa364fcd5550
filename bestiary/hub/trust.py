"""What a person has agreed to: the licences that ask for it, and bytes that no card pins.

Such bytes are taken at first use where the person says so, and pinned in the lock file from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from bestiary.errors import InputError, IntegrityError, LicenseError
from bestiary.hub.fetch import Fetched, fetch
from bestiary.hub.lock import Lock, Pin
from bestiary.hub.progress import Progress
from bestiary.hub.records import BaseCard, File
from bestiary.hub.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the lock file knows, whether it may learn more, and whether a licence that asks is accepted."""

    lock: Lock
    first_use: bool = False
    accept_license: bool = False

    @classmethod
    def given(cls, trust: str | None, lock: str | PathLike[str], accept_license: bool) -> Trust:
        """The arguments of a load. Raises InputError for a `trust` that is not known."""
        if trust not in (None, "first-use"):
            raise InputError(f'trust={trust!r} is not known\nit is None or "first-use"')
        return cls(lock=Lock(Path(lock)), first_use=trust == "first-use", accept_license=accept_license)

    def fetch(
        self, card: BaseCard, settings: Settings, progress: Progress, files: Sequence[File] | None = None
    ) -> dict[str, Fetched]:
        """The verified files of a card by name (all, or `files`); those not pinned have to be what the lock file says.

        Raises LicenseError, IntegrityError, and what `bestiary.hub.fetch.fetch` raises.
        """
        if card.accept_license and not self.accept_license:
            raise LicenseError(
                f"{card.name} wants its licence, {card.license}, accepted first\n"
                "read its card, then pass accept_license=True (--accept-license)"
            )
        wanted = card.files if files is None else files
        if not wanted:
            return {}
        if card.pinned:
            return fetch(card, settings, files=wanted, progress=progress)
        revision = next(source.revision for source in card.sources if source.revision)
        pins = self.pins(card.name, revision)
        known = [replace(file, **pins[file.name]._asdict()) if file.name in pins else file for file in wanted]
        came = fetch(card, settings, files=known, progress=progress)
        self.settle(card.name, revision, {name: _pin(fetched) for name, fetched in came.items()})
        return came

    def pins(self, name: str, revision: str) -> Mapping[str, Pin]:
        """The digests that the lock file has for a card. Raises IntegrityError where it has none and may not get any."""
        pins = self.lock.pins(name, revision)
        if not pins and not self.first_use:
            raise IntegrityError(
                f"nothing says which bytes {name} should be: no card pins them, nor does {self.lock.path}\n"
                'if you trust its source, load it once with trust="first-use" (--trust first-use); what comes then is pinned'
            )
        return pins

    def settle(self, name: str, revision: str, came: Mapping[str, Pin]) -> None:
        """Check what came against the lock file, or write it there. Raises IntegrityError where it is something else."""
        pins = self.pins(name, revision)
        if came.items() <= pins.items():
            return
        added = sorted(came.keys() - pins.keys())
        if pins and added and not self.first_use:
            raise IntegrityError(
                f'{name}: {added[0]} is not pinned in {self.lock.path}\nif you trust it, load once with trust="first-use"'
            )
        self.lock.record(name, revision, came)


def _pin(fetched: Fetched) -> Pin:
    size, sha256 = fetched.file.size, fetched.file.sha256
    assert size is not None and sha256 is not None  # fetched files have both
    return Pin(size, sha256)
