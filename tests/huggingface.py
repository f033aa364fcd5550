"""A server on this machine that answers as the Hugging Face Hub does."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds, by path in the repository, and how it behaves; `requests` is what it was asked for."""

    files: dict[str, bytes]
    url: str = ""
    commit: str = COMMIT
    status: int = 200
    reason: str = ""
    refused: str = ""  # a path in the repository that is answered by 403
    requests: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers /owner/name/resolve/revision/path and, for a repository of data, /datasets/... and the list of its files."""
        self.requests.append(f"{request.command} {request.path}")
        path = request.path.removeprefix("/datasets")
        content = self._listing() if path.startswith("/api/datasets/") else self.files.get("/".join(path.split("/")[5:]))
        status, reason = (self.status, self.reason) if content is not None else (404, "EntryNotFound")
        if self.refused and path.endswith(f"/{self.refused}"):
            status, reason = 403, ""
        body = content if status == 200 and content is not None else b"{}"
        request.send_response(status)
        if reason:
            request.send_header("X-Error-Code", reason)
        if self.commit:
            request.send_header("X-Repo-Commit", self.commit)
        request.send_header("X-Linked-Size", str(len(body)))
        request.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def _listing(self) -> bytes:
        files = [{"type": "file", "path": path, "size": len(body), "oid": "0" * 40} for path, body in self.files.items()]
        return json.dumps(files).encode()


@contextmanager
def running_hub(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub that holds these files, until the `with` statement ends."""
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            hub.answer(self)

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()
