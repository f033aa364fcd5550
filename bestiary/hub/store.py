"""The store: verified files, each named by the sha256 that was computed here.

    blobs/<sha256>            a verified file, read-only
    origins/<sha256>          one line: where it first came from
    conversions/<key>.json    which blob a converter made from which source
    partials/                 unfinished files, each private to one process
    quarantine/<sha256>.<what it was>     bytes that were not what they should have been
    verified/                 the memo of verify.py
    locks/                    whose turn it is to fetch a file

Nothing is ever written under a final name but by renaming a finished, synced file, so a process may be killed anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from bestiary.errors import CardError, IntegrityError
from bestiary.hub.files import age, delete, random_name, size_of, sync_folder, writing
from bestiary.hub.names import is_sha256
from bestiary.hub.partial import MARK_SUFFIX, SUFFIX, Partial, hold
from bestiary.hub.turn import turn
from bestiary.hub.verify import WEEK, Memo, Verify, check_file, digest_file, hash_stream

GRACE = 24 * 3600.0  # seconds for which an unfinished download is kept to be continued


class Entry(NamedTuple):
    """One file of the store. `size` is in bytes, `used` the time of its last verification or use, in Unix seconds."""

    sha256: str
    size: int
    path: Path
    origin: str
    source: str | None  # digest of the file that this one was converted from
    used: float

    @property
    def kind(self) -> Literal["file", "conversion"]:
        """What it is: as it came, or made of another one."""
        return "conversion" if self.source else "file"


class Garbage(NamedTuple):
    """Something that `prune` would delete, and why."""

    path: Path
    size: int
    reason: str


class Record(NamedTuple):
    """What a conversion made: a blob, from the file that lay at `source`."""

    sha256: str
    size: int
    source: Path


class Store:
    """The files below `home`; the folder is made at the first write. Safe for any number of threads and processes."""

    patience = 120.0  # seconds for which another process's download may stand still before this one goes on alone

    def __init__(self, home: Path) -> None:
        self.home = home
        self.blobs = home / "blobs"
        self.origins = home / "origins"
        self.conversions = home / "conversions"
        self.partials = home / "partials"
        self.quarantine = home / "quarantine"
        self.locks = home / "locks"
        self.memo = Memo(home / "verified")

    # Reading

    def find(self, sha256: str, size: int, *, verify: Verify = "memo") -> Path | None:
        """The file with that digest, verified; None when it is not there. A rotten one goes into quarantine."""
        path = self.blobs / _checked(sha256)
        try:
            status = path.stat()
            self.check(path, sha256, size, verify=verify)
        except OSError:  # of `stat`: there is nothing, or nothing that may be seen
            return None
        except IntegrityError:
            with suppress(OSError):
                if os.path.samestat(status, path.stat()):  # not what another process has put there since
                    self._put_away(path, sha256, "rotten")
            return None
        return path

    def check(self, path: Path, sha256: str, size: int, *, verify: Verify = "memo") -> None:
        """Verify a file that lies elsewhere and is used in place. Raises IntegrityError, naming it."""
        check_file(path, sha256, size, self.memo, verify)

    def digest(self, path: Path) -> tuple[int, str]:
        """Size in bytes and sha256 of a file that lies elsewhere. Raises IntegrityError when it cannot be read."""
        return digest_file(path, self.memo)

    def holds(self, sha256: str) -> bool:
        """Whether a file with that digest is there, sound or not."""
        return (self.blobs / _checked(sha256)).exists()

    def origin(self, sha256: str) -> str | None:
        """Where a file first came from, as its source calls itself; None when that is not known."""
        try:
            return (self.origins / _checked(sha256)).read_text(encoding="utf-8").strip() or None
        except (OSError, ValueError):
            return None

    # Writing

    def partial(
        self, sha256: str | None, size: int | None, name: str = "a file", *, watch: Callable[[int], None] = lambda done: None
    ) -> Partial:
        """A sink for a file that is not there yet, to be used in a `with` statement.

        Bytes that a killed process left are continued. Without a digest nothing is, and `commit` takes what came. `name`
        is for messages; `watch` is told how many bytes are there.
        """
        return Partial(self.partials, self._finish, _checked(sha256) if sha256 else None, size, name, watch)

    def turn(self, key: str, *, watch: Callable[[int], None] = lambda there: None) -> AbstractContextManager[None]:
        """Wait for another process that fetches the file with this digest, until `patience` seconds bring no new byte.

        `watch` is told how many bytes the other one has.
        """
        return turn(self.locks / key, lambda: self._unfinished(key), self.patience, watch)

    def converted(
        self, source: Path, source_sha256: str, converter: str, version: int, convert: Callable[[Path, Path], None]
    ) -> Path:
        """What `convert(source, target)` makes of a verified file; made once for each digest, converter and version.

        Whatever `convert` raises goes through, and leaves nothing behind.
        """
        key = f"{_checked(source_sha256)}.{converter}.{version}"
        if path := self._conversion(key):
            return path
        with self.turn(key):
            if path := self._conversion(key):
                return path
            target = self.partials / f"{key}.{random_name()}.conversion"
            try:
                with writing(f"The conversion of {source.name}", self.home):
                    self.partials.mkdir(parents=True, exist_ok=True)
                    convert(source, target)
                    with target.open("r+b", buffering=0) as file:
                        sha256 = hash_stream(file)
                        os.fsync(file.fileno())
                    path = self._keep(target, sha256, f"{converter} {version}, from {source_sha256}")
                    record = {"sha256": sha256, "size": path.stat().st_size, "source": str(source.absolute())}
                    self._write_state(self.conversions / f"{key}.json", json.dumps(record))
                    return path
            finally:
                target.unlink(missing_ok=True)

    def _finish(self, partial: Partial, actual: str, origin: str) -> Path:
        size = partial.path.stat().st_size
        if actual != (partial.sha256 or actual) or size != (size if partial.size is None else partial.size):
            self._put_away(partial.path, partial.sha256 or "unpinned", actual)
            raise IntegrityError(
                f"{partial.name}: {origin} gave {size} bytes with sha256 {actual[:12]}…\n"
                f"instead of {partial.size} bytes with sha256 {(partial.sha256 or '')[:12]}….\n"
                f"They are kept in {self.quarantine} for inspection; ask another source."
            )
        with writing(partial.name, self.home):
            return self._keep(partial.path, actual, origin)

    def _keep(self, finished: Path, sha256: str, origin: str) -> Path:
        """Give a finished and synced file its final name."""
        if self.origin(sha256) is None:
            self._write_state(self.origins / sha256, origin + "\n")
        finished.chmod(0o444)
        before = finished.stat()
        path = self.blobs / sha256
        self.blobs.mkdir(parents=True, exist_ok=True)
        finished.replace(path)
        sync_folder(self.blobs)
        after = path.stat()
        # The rename touches the ctime; the rest shows that these are still the bytes that were hashed.
        if (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns):
            self.memo.remember(after, sha256)
        return path

    def _put_away(self, path: Path, sha256: str, actual: str) -> None:
        # One name for each kind of wrong bytes: a source that lies again and again does not fill the disk.
        with suppress(OSError):
            self.quarantine.mkdir(parents=True, exist_ok=True)
            path.replace(self.quarantine / f"{sha256}.{actual}")

    def _write_state(self, path: Path, text: str) -> None:
        scratch = self.partials / f"{random_name()}.state"
        self.partials.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)

    def _conversion(self, key: str) -> Path | None:
        record = _read_record(self.conversions / f"{key}.json")
        return self.find(record.sha256, record.size) if record else None

    def _unfinished(self, key: str) -> int:
        return sum(size_of(path) for path in self.partials.glob(f"{key}.*") if path.suffix != MARK_SUFFIX)

    # Keeping house

    def entries(self) -> list[Entry]:
        """What is there, unverified, by path; `find(..., verify="always")` tells whether an entry is sound."""
        sources = {record.sha256: _source_digest(path) for path, record in self._records() if record}
        entries = []
        for path in sorted(self.blobs.glob("*")):
            if is_sha256(path.name):
                status = path.stat()
                entries.append(
                    Entry(
                        sha256=path.name,
                        size=status.st_size,
                        path=path,
                        origin=self.origin(path.name) or "",
                        source=sources.get(path.name),
                        used=max(status.st_atime, status.st_mtime),
                    )
                )
        return entries

    def usage(self) -> dict[str, int]:
        """Bytes of the files, the conversions, the unfinished downloads and the quarantine."""
        entries = self.entries()
        return {
            "files": sum(entry.size for entry in entries if entry.kind == "file"),
            "conversions": sum(entry.size for entry in entries if entry.kind == "conversion"),
            "unfinished": sum(map(size_of, self.partials.glob("*"))),
            "quarantine": sum(map(size_of, self.quarantine.glob("*"))),
        }

    def remove(self, sha256: str) -> int:
        """Delete a file and what was converted from it. Returns the bytes that this gave back."""
        freed = delete(self.blobs / _checked(sha256))
        (self.origins / sha256).unlink(missing_ok=True)
        for path, record in self._records():
            if record and sha256 in (record.sha256, _source_digest(path)):
                path.unlink(missing_ok=True)
                freed += self.remove(record.sha256)
        return freed

    def garbage(self, grace: float = GRACE) -> list[Garbage]:
        """What `prune` would delete: leftovers older than `grace` seconds, the quarantine, conversions without a source."""
        found = [
            Garbage(path=path, size=size_of(path), reason="quarantined") for path in sorted(self.quarantine.glob("*"))
        ]
        for path in sorted(self.partials.glob("*")):
            finished = (self.blobs / path.name.partition(".")[0]).exists()
            if (finished or age(path) > grace) and not _in_use(path):
                found.append(Garbage(path=path, size=size_of(path), reason="already complete" if finished else "unfinished"))
        for path, record in self._records():
            if not (record and ((self.blobs / _source_digest(path)).exists() or record.source.exists())):
                found.append(Garbage(path=path, size=size_of(path), reason="conversion of a file that is gone"))
                if record and (blob := self.blobs / record.sha256).exists():
                    found.append(Garbage(path=blob, size=size_of(blob), reason="conversion of a file that is gone"))
        for path in sorted(self.memo.folder.glob("*")):
            if age(path) > WEEK:
                found.append(Garbage(path=path, size=size_of(path), reason="a verification of over a week ago"))
        return found

    def prune(self, garbage: Iterable[Garbage]) -> int:
        """Delete these, except downloads that have come to life since. Returns the bytes that this gave back."""
        return sum(delete(item.path) for item in garbage if not _in_use(item.path))

    def _records(self) -> list[tuple[Path, Record | None]]:
        return [(path, _read_record(path)) for path in sorted(self.conversions.glob("*.json"))]


def _read_record(path: Path) -> Record | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Record(sha256=_checked(record["sha256"]), size=int(record["size"]), source=Path(record["source"]))
    except (OSError, ValueError, TypeError, KeyError, CardError):
        return None  # killed while writing: the conversion is made again


def _source_digest(record: Path) -> str:
    """The digest of the file that a conversion was made from: its record is named after it."""
    return record.name.partition(".")[0]


def _checked(sha256: str) -> str:
    """A digest becomes a file name, so it has to be one."""
    if not is_sha256(sha256):
        raise CardError(f"{sha256!r} is not a sha256.\nExpected 64 lower-case hexadecimal digits.")
    return sha256


def _in_use(path: Path) -> bool:
    if path.suffix != SUFFIX:
        return False
    if file := hold(path):
        file.close()
        return False
    return path.exists()
