"""bestiary.lock: the digests of files that no card could pin, as they came the first time.

    schema = 1

    [[model]]
    name = "voices"
    revision = "3f1c…"

    [model.files]
    "model.safetensors" = {size = 4096, sha256 = "9f86…"}

`trust="first-use"` writes it. From then on it is the pin: commit it, and everyone who loads the model gets the same bytes
or an error.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from bestiary.errors import CardError, InputError, IntegrityError
from bestiary.hub import names
from bestiary.hub.fields import Field

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK = "bestiary.lock"   # in the working folder, unless told otherwise
SCHEMA = 1
PATIENCE = 10.0   # seconds; a writer needs milliseconds, so a draft that is older was left by one that was killed


class Pin(NamedTuple):
    """The identity of one file."""

    size: int     # bytes
    sha256: str


Pins = dict[tuple[str, str], dict[str, Pin]]   # by card name and revision, then by file name


class Lock:
    """One lock file; it need not exist yet.

        >>> lock = Lock("bestiary.lock")
        >>> lock.record("voices", "3f1c", {"model.safetensors": Pin(4096, "0" * 64)})
        >>> lock.pins("voices", "3f1c")["model.safetensors"].size
        4096
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def pins(self, name: str, revision: str) -> Mapping[str, Pin]:
        """What came for that card and revision, by file name; empty where nothing has come yet.

        Raises CardError for a file that is no lock file: what was pinned must not be lost unseen.
        """
        return self._read().get((name, revision), {})

    def record(self, name: str, revision: str, came: Mapping[str, Pin]) -> None:
        """Pin what came. The file is replaced whole, and what other processes pin meanwhile is kept.

        Raises IntegrityError where a file is pinned to other bytes already, CardError for a malformed lock file, and
        InputError where it cannot be written; the file is then as it was.
        """
        with _sole_writer(self.path) as draft:
            everything = self._read()
            pins = everything.setdefault((name, revision), {})
            for file, pin in came.items():
                if pins.setdefault(file, pin) != pin:
                    raise IntegrityError(
                        f"{self.path}: {name}: {file} is pinned to sha256 {pins[file].sha256}, but {pin.sha256} came\n"
                        "if the change is wanted, remove the model from the lock file"
                    )
            draft.write(_written(everything))

    def _read(self) -> Pins:
        try:
            content = tomllib.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CardError(f"{self.path}: the lock file cannot be read: {error.strerror}\nmake it readable") from error
        except ValueError as error:   # TOML's and Unicode's errors are both of them
            raise CardError(f"{self.path}: not a lock file: {error}\nrestore it from version control") from error
        top = Field(str(self.path), "", content).only(("schema", "model"))
        if top.need("schema", str(SCHEMA)).whole() != SCHEMA:
            raise top.need("schema", "").wrong(f"{SCHEMA}, or a newer Bestiary")
        models = top.get("model")
        return dict(_model(entry) for entry in models.items()) if models else {}


@contextmanager
def _sole_writer(path: Path) -> Iterator[TextIO]:
    """A draft beside the file that only one process can create: it is the lock, and then it takes the file's place."""
    draft = path.with_name(path.name + ".new")
    try:
        with _create(draft) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                draft.unlink()
                raise
        os.replace(draft, path)
    except OSError as error:
        problem = error.strerror or str(error)
        raise InputError(f"{path}: the lock file cannot be written: {problem}\nchoose another with lock=") from error


def _create(draft: Path) -> TextIO:
    """The draft, once no other process has one. Raises TimeoutError when that takes too long."""
    patience_ends = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < patience_ends:
        try:
            return draft.open("x", encoding="utf-8", newline="\n")
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > PATIENCE:
                    draft.unlink()
            time.sleep(0.01)
    raise TimeoutError(f"another process keeps {draft.name}")


def _model(entry: Field) -> tuple[tuple[str, str], dict[str, Pin]]:
    entry.only(("name", "revision", "files"))
    files = entry.need("files", "files by name").entries().items()
    return (
        (entry.need("name", "the name of a card").text(), entry.need("revision", "what was asked for").text()),
        {name: _pin(file.only(("size", "sha256"))) for name, file in files},
    )


def _pin(file: Field) -> Pin:
    digest = file.need("sha256", "64 hexadecimal digits").text("64 hexadecimal digits in small letters", names.is_sha256)
    return Pin(file.need("size", "bytes").whole(least=0), digest)


def _written(everything: Pins) -> str:
    quoted = partial(json.dumps, ensure_ascii=False)   # JSON and TOML quote printable text alike
    lines = ["# What came when these models were first loaded. Commit this file: it is what they are checked against.",
             f"schema = {SCHEMA}"]
    for (name, revision), pins in sorted(everything.items()):
        lines += ["", "[[model]]", f"name = {quoted(name)}", f"revision = {quoted(revision)}", "", "[model.files]"]
        lines += [f"{quoted(file)} = {{size = {pin.size}, sha256 = {quoted(pin.sha256)}}}" for file, pin in sorted(pins.items())]
    return "\n".join(lines) + "\n"
