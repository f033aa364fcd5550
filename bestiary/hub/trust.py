"""Bytes that no card pins: taken at first use where a person says so, and pinned in the lock file from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bestiary.errors import IntegrityError
from bestiary.hub.lock import Lock, Pin


@dataclass(frozen=True)
class Trust:
    """What the lock file knows, and whether it may learn more."""

    lock: Lock
    first_use: bool = False

    def pins(self, name: str, revision: str) -> Mapping[str, Pin]:
        """The digests that the lock file has for a model. Raises IntegrityError where it has none and may not get any."""
        pins = self.lock.pins(name, revision)
        if not pins and not self.first_use:
            raise IntegrityError(
                f"nothing says which bytes {name} should be: no card pins them, nor does {self.lock.path}\n"
                'if you trust its source, load it once with trust="first-use"; what comes then is pinned'
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
