"""The card, the store and the processes of the fault tests."""

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

from bestiary.errors import BestiaryError
from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.fetch import Fetched, fetch
from bestiary.hub.settings import Settings
from bestiary.hub.sources.web import Patience, WebSource
from bestiary.hub.store import Store
from tests.hub.faults.server import BODY

ROOT = Path(__file__).parents[3]
SHA256 = hashlib.sha256(BODY).hexdigest()
FILE = File(name="model.bin", size=len(BODY), sha256=SHA256, role="weights")
HASTE = Patience(connect=2, stall=0.5, tries=3, pause=0.01, longest_pause=3)


def card_of(*specs: SourceSpec, file: File = FILE) -> Card:
    return Card(
        name="model", task="text-embedding", license="cc0-1.0", architecture="bert", layout="transformers", checked="weights",
        files=(file,), sources=specs,
    )  # fmt: skip


@contextmanager
def running_server(*arguments: str) -> Iterator[int]:
    """The port of a misbehaving server, a process of its own."""
    command = [sys.executable, "-m", "tests.hub.faults.server", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield int(process.stdout.readline())
        process.stdin.close()
        process.wait(10)


class Zoo:
    """A store in an empty folder, and a server whose addresses are this test's own."""

    def __init__(self, folder: Path, address: str) -> None:
        self.address = address
        self.test = folder.name
        self.settings = Settings(home=folder / "home")
        self.store = Store(self.settings.home)
        self.wanted = (SHA256, len(BODY), FILE.name)

    def url(self, behaviour: str) -> SourceSpec:
        return SourceSpec(kind="url", address=f"{self.address}/{behaviour}/{self.test}")

    def fetch(self, *behaviours: str) -> Fetched:
        """Fetch the file from the server, which behaves in these ways; every fetched file is checked here."""
        fetched = self.fetch_beside(*behaviours)
        assert self.unfinished() == []
        return fetched

    def fetch_beside(self, *behaviours: str) -> Fetched:
        """The same while another process may have an unfinished download."""
        fetched = fetch(card_of(*map(self.url, behaviours)), self.settings)[FILE.name]
        assert fetched.path.read_bytes() == BODY
        assert fetched.path.stat().st_mode & 0o777 == 0o444
        return fetched

    def failure(self, *behaviours: str, kind: type[BestiaryError]) -> str:
        """Fail to; returns the message. Whatever fails leaves no blob."""
        with pytest.raises(kind) as caught:
            fetch(card_of(*map(self.url, behaviours)), self.settings)
        message = str(caught.value)
        assert type(caught.value) is kind
        assert len(message.splitlines()) <= 3 and FILE.name in message and "BESTIARY_MIRRORS" in message
        assert self.blobs() == []
        return message

    def requests(self, behaviour: str, name: str = FILE.name) -> list[dict[str, str]]:
        """The headers of the requests that the server saw for the file, in order."""
        with urllib.request.urlopen(f"{self.address}/log", timeout=5) as answer:
            log: dict[str, list[dict[str, str]]] = json.load(answer)
        return log.get(f"/{behaviour}/{self.test}/{name}", [])

    def blobs(self) -> list[str]:
        return sorted(path.name for path in self.store.blobs.glob("*"))

    def unfinished(self) -> list[str]:
        return sorted(path.name for path in self.store.partials.glob("*"))

    def quarantined(self) -> list[bytes]:
        return [path.read_bytes() for path in self.store.quarantine.glob("*")]


class Child:
    """A process that fetches the file. It says "ready" before, and the result after, and lives until that was asked for."""

    def __init__(self, processes: ForkServerContext, card: Card, settings: Settings) -> None:
        self.reports, theirs = processes.Pipe()
        self.process: ForkServerProcess = processes.Process(target=fetch_and_report, args=(card, settings, theirs), daemon=True)
        self.process.start()
        theirs.close()
        assert self.reports.recv() == "ready"

    def result(self) -> tuple[str, str]:
        """Path and origin, or the name of the error and its message."""
        result: tuple[str, str] = self.reports.recv()
        self.reports.close()
        self.process.join(10)
        return result

    def send(self, signal: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, signal)


def fetch_and_report(card: Card, settings: Settings, reports: Connection) -> None:
    WebSource.patience = HASTE
    reports.send("ready")
    try:
        fetched = fetch(card, settings)[FILE.name]
    except BestiaryError as error:
        reports.send((type(error).__name__, str(error)))
    else:
        reports.send((str(fetched.path), fetched.origin))
    reports.poll(60)
