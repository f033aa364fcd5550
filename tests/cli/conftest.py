"""A small zoo in a folder: cards, the files they name, a server for them, and the command line as a process of its own."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "bestiary")
DEADLINE = 120  # seconds for one command

CARD = """\
---
license: {license}
language: en
tags: [tiny]
bestiary:
  name: {name}
  task: text-embedding
  architecture: bert
  config: {{layers: 1, width: 8, heads: 2, hidden: 16, vocabulary: 30, positions: 32}}
  layout: transformers
  files:
{files}
  sources:
    - {source}
  preprocess: {{max_length: 16, pooling: mean, normalize: true}}
  checked: weights
---
{text}
"""


@dataclass
class Zoo:
    """A folder of cards, a store of its own, and what a person would type."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cards(self) -> Path:
        return self.folder / "cards"

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        *,
        source: str = "path: .",
        text: str = "A tiny model.",
        license: str = "apache-2.0",
        promised: bytes | None = None,
    ) -> None:
        """Write a card with these files beside it; `promised` are the bytes that the card's digests are taken of, if others."""
        lines = []
        for file, content in files.items():
            (self.cards / file).write_bytes(content)
            meant = content if promised is None else promised
            role = "tokenizer" if file.endswith(".json") else "weights"
            lines.append(f"    {file}: {{size: {len(meant)}, sha256: {hashlib.sha256(meant).hexdigest()}, role: {role}}}")
        card = CARD.format(name=name, files="\n".join(lines), source=source, text=text, license=license)
        (self.cards / f"{name}.md").write_text(card, encoding="utf-8")

    def variables(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
        own = {"BESTIARY_HOME": str(self.home), "BESTIARY_CARDS": str(self.cards), "TERM": "xterm-256color"}
        return {**inherited, **own, **self.environment}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The command with pipes at all three ends."""
        return subprocess.run(
            [*COMMAND, *arguments], cwd=self.folder, env=self.variables(), input=stdin, capture_output=True, encoding="utf-8",
            timeout=DEADLINE,
        )  # fmt: skip

    def json(self, *arguments: str) -> dict[str, Any]:
        """What the command prints with --json; it has to succeed."""
        completed = self.run(*arguments, "--json")
        assert completed.returncode == 0, completed.stderr
        content: dict[str, Any] = json.loads(completed.stdout)
        assert content["schema"] == 1
        return content

    def lines(self, *arguments: str) -> list[list[str]]:
        """The cells of each line that the command prints; it has to succeed."""
        completed = self.run(*arguments)
        assert completed.returncode == 0, completed.stderr
        return [line.split("\t") for line in completed.stdout.splitlines()]

    def terminal(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """The exit code and everything that appears when the command runs on a terminal of 100 columns."""
        controller, terminal = pty.openpty()
        child = subprocess.Popen(
            [*COMMAND, *arguments], cwd=self.folder, env={**self.variables(), "COLUMNS": "100"}, stdin=terminal, stdout=terminal,
            stderr=terminal, close_fds=True,
        )  # fmt: skip
        os.close(terminal)
        os.write(controller, typed.encode())
        shown = b""
        try:
            while part := _read(controller):
                shown += part
            return child.wait(DEADLINE), shown.decode()
        finally:
            child.kill()
            child.wait()
            os.close(controller)


def _read(controller: int) -> bytes:
    """What appears next on a terminal; nothing once its other end is closed."""
    ready, _, _ = select.select([controller], [], [], DEADLINE)
    assert ready, "the command neither prints nor ends"
    try:
        return os.read(controller, 65536)
    except OSError as error:  # how Linux says that the other end is closed
        assert error.errno == errno.EIO
        return b""


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    (tmp_path / "cards").mkdir()
    return Zoo(tmp_path)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def served(zoo: Zoo) -> Iterator[str]:
    """The address under which the files beside the cards are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(zoo.cards)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()
