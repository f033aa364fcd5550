"""A verified download against huggingface_hub's, which verifies nothing: 500 MB from a server process on this machine."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.fetch import fetch
from bestiary.hub.settings import Settings
from bestiary.scripts.benchmark import Bench, Row

SIZE = 500_000_000  # bytes
NAME = "model.safetensors"


def download(bench: Bench) -> Iterator[Row]:
    """Both into an empty store of their own each time; only ours hashes what came."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        bench.say("writing 500 MB")
        path = Path(folder, NAME)
        digest = write_file(path)
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        with server(path, digest) as address:
            card = card_of(address, digest)
            times = bench.alternate(
                lambda: fetch(card, Settings(home=ours)),
                lambda: hf_hub_download("owner/model", NAME, cache_dir=theirs, endpoint=address, token=False),
                before=lambda: _remove(ours, theirs),
            )
    yield times.speed("500 MB downloaded and verified, from this machine", "huggingface_hub, unverified", at_least=1.4)


def write_file(path: Path) -> str:
    """Write SIZE bytes of noise; returns their sha256."""
    digest = hashlib.sha256()
    noise = os.urandom(1_000_000)
    with path.open("wb") as file:
        for _ in range(SIZE // len(noise)):
            file.write(noise)
            digest.update(noise)
    return digest.hexdigest()


def card_of(address: str, sha256: str) -> Card:
    """The card of a model that is this one file."""
    return Card(
        name="download", task="text-embedding", license="cc0-1.0", architecture="bert", layout="transformers", checked="weights",
        files=(File(name=NAME, size=SIZE, sha256=sha256, role="weights"),),
        sources=(SourceSpec(kind="url", address=f"{address}/owner/model/resolve/main"),),
    )  # fmt: skip


@contextmanager
def server(path: Path, sha256: str) -> Iterator[str]:
    """The address of a process that serves the file, with the headers that huggingface_hub asks of a model hub."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(path, sha256, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def serve(path: Path, sha256: str, report: Connection) -> None:
    """Serve the file until the process is ended; reports the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, path, sha256)) as running:
        report.send(running.server_address[1])
        running.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, path: Path, sha256: str, *arguments: object):
        self.file, self.sha256 = path, sha256
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.file.stat().st_size))
        self.send_header("ETag", f'"{self.sha256}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.flush()
        with self.file.open("rb") as file:
            self.connection.sendfile(file)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
