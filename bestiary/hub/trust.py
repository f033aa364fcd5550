"""What a person has agreed to: the licences that ask for it, and bytes that no card pins.

Such bytes are taken at first use where the person says so, and pinned in the lock file from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bestiary.errors import IntegrityError, LicenseError
from bestiary.hub.card import Card
from bestiary.hub.fetch import Fetched, fetch
from bestiary.hub.lock import Lock, Pin
from bestiary.hub.progress import Progress
from bestiary.hub.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the lock file knows, whether it may learn more, and whether a licence that asks is accepted."""

    lock: Lock
    first_use: bool = False
    accept_license: bool = False

    def fetch(self, card: Card, settings: Settings, progress: Progress) -> dict[str, Fetched]:
        """The verified files of a card by name; those that it does not pin have to be what the lock file says.

        Raises LicenseError, IntegrityError, and what `bestiary.hub.fetch.fetch` raises.
        """
        if card.accept_license and not self.accept_license:
            raise LicenseError(
                f"{card.name} wants its licence, {card.license}, accepted first\n"
                "read its card, then pass accept_license=True (--accept-license)"
            )
        if card.pinned:
            return fetch(card, settings, progress=progress)
        revision = next(source.revision for source in card.sources if source.revision)
        pins = self.pins(card.name, revision)
        known = (replace(file, **pins[file.name]._asdict()) if file.name in pins else file for file in card.files)
        files = fetch(replace(card, files=tuple(known)), settings, progress=progress)
        self.settle(card.name, revision, {name: _pin(fetched) for name, fetched in files.items()})
        return files

    def pins(self, name: str, revision: str) -> Mapping[str, Pin]:
        """The digests that the lock file has for a model. Raises IntegrityError where it has none and may not get any."""
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
        if dict(pins) == dict(came):
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
