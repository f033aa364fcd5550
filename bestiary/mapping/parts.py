"""The folder of results: a parquet file for each block of inputs, and a manifest that says what all of them are of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bestiary.errors import InputError, of_writing
from bestiary.hub.files import random_name, sync_folder, try_lock

MANIFEST = "_map.json"  # readers of parquet take a folder for one table, and leave out what begins with an underscore
FAILURES = "_failures.jsonl"
ROW_GROUP = 32_000_000  # bytes that are gathered before they are written
_FAILED = b"bestiary.failures"  # under which a part keeps the names of the inputs that failed, and why


class Counts(NamedTuple):
    """What parts hold: rows, and beside them inputs that failed."""

    rows: int
    failed: int


class PartWriter:
    """A part as it grows."""

    def __init__(self, file: IO[bytes], schema: pa.Schema):
        self.schema = schema
        self.failures: list[dict[str, Any]] = []
        self._file = pq.ParquetWriter(file, schema, compression="zstd")
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        if sum(waiting.nbytes for waiting in self._waiting) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.add_key_value_metadata({_FAILED: json.dumps(self.failures, ensure_ascii=False).encode()})
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting))
            self._waiting = []


class Parts:
    """The parts of `count` blocks, in a folder. Each appears under its name once it is whole and on the disk."""

    def __init__(self, folder: Path, count: int):
        self.folder = folder
        self.count = count

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:0{max(5, len(str(self.count - 1)))}d}.parquet"

    def missing(self) -> list[int]:
        """The numbers of those that are not there, or not whole."""
        return [number for number in range(self.count) if not self._is_whole(number)]

    @contextmanager
    def claimed(self, manifest: Mapping[str, Any]) -> Iterator[None]:
        """The folder for this run alone, and for what the manifest describes alone.

        Raises InputError for a folder of something else, or of a run that is still going on; DiskFullError.
        """
        self.check(manifest)
        with ExitStack() as held:
            if self._locked(held) != manifest:
                with _writing(self.folder):
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self._put(MANIFEST, [json.dumps(manifest, indent=2, ensure_ascii=False)])
                if self._locked(held) != manifest:  # somebody else was a moment later
                    raise self._taken()
            for left in self.folder.glob(".*.new"):
                left.unlink()  # of a run that was killed
            yield

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Raise InputError for a folder that holds something other than a run of this manifest."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file\ngive the name of a folder")
        there = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        before = _read(self.folder / MANIFEST)
        if before is None and any(not name.startswith(".") for name in there):
            raise InputError(f"{self.folder} holds something else, such as {min(there)}\ngive a new folder, or an empty one")
        if before is not None and before != manifest and any(name.startswith("part-") for name in there):
            others = sorted(key for key in {**before, **manifest} if before.get(key) != manifest.get(key))
            raise InputError(
                f"{self.folder} holds results of another run: it differs in {', '.join(others)} (see {MANIFEST})\n"
                "give another folder, or remove this one first"
            )

    @contextmanager
    def writing(self, number: int, schema: pa.Schema) -> Iterator[PartWriter]:
        """A part to be filled; it appears when all went well. Raises DiskFullError, InputError where it cannot be written."""
        with _writing(self.folder), self._appearing(self.path(number)) as file:
            writer = PartWriter(file, schema)
            yield writer
            writer.close()

    def finish(self) -> Counts:
        """Gather the failures of all parts in one file, if there are any."""
        rows, failures = 0, list[str]()
        for number in range(self.count):
            metadata = pq.read_metadata(self.path(number))
            rows += metadata.num_rows
            failures += (json.dumps(one, ensure_ascii=False) for one in json.loads(metadata.metadata[_FAILED]))
        if failures:
            with _writing(self.folder):
                self._put(FAILURES, failures)
        return Counts(rows, len(failures))

    def _locked(self, held: ExitStack) -> Mapping[str, Any] | None:
        """What the manifest says, locked for as long as it is held; nothing where there is none."""
        try:
            handle = held.enter_context((self.folder / MANIFEST).open("rb"))
        except FileNotFoundError:
            return None
        if try_lock(handle) is False:
            raise self._taken()
        return _read(self.folder / MANIFEST)

    def _taken(self) -> InputError:
        return InputError(f"another run is writing to {self.folder}\nwait for it, or give another folder")

    def _is_whole(self, number: int) -> bool:
        try:
            return _FAILED in (pq.read_metadata(self.path(number)).metadata or {})
        except (OSError, pa.ArrowException):
            return False

    def _put(self, name: str, lines: list[str]) -> None:
        with self._appearing(self.folder / name) as file:
            file.writelines(f"{line}\n".encode() for line in lines)

    @contextmanager
    def _appearing(self, path: Path) -> Iterator[IO[bytes]]:
        new = path.with_name(f".{path.name}.{random_name()}.new")
        try:
            with new.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            sync_folder(path.parent)
        finally:
            new.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or error}"
        raise of_writing(error)(f"{what}\nmake room, or give another folder") from error


def _read(manifest: Path) -> Mapping[str, Any] | None:
    """What a manifest says; nothing where there is none, or none of ours."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, Mapping) else None
