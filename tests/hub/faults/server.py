"""A web server that misbehaves on purpose, as a process of its own: `python -m tests.hub.faults.server`.

It prints its port, and speaks TLS when it is given a file with a key and a certificate. The first part of an address
names the behaviour, one of the functions below; the whole address is the key under which requests are counted, so that
each test's addresses start afresh. `/log` answers with the requests so far. It ends when its standard input is closed.
"""

import json
import random
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

BODY = random.Random(20240229).randbytes(3_000_000)
ETAG = '"the-first-edition"'
PART = len(BODY) // 4  # what a behaviour that fails in the middle sends before it does


class Exchange:
    """One request, and what there is to answer it."""

    def __init__(self, connection: socket.socket, path: str, headers: Mapping[str, str], earlier: list[dict[str, str]]):
        self.connection = connection
        self.path = path
        self.headers = headers
        self.earlier = earlier  # requests for the same address
        self.start = int(headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def head(self, status: int, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} As Told", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def body(self, content: bytes) -> None:
        self.connection.sendall(content)

    def whole(self, content: bytes = BODY, etag: str = ETAG, stop: int | None = None) -> None:
        """An honest answer, whole or the rest that was asked for, up to `stop`."""
        if self.start and self.headers.get("if-range", etag) == etag:
            span = f"bytes {self.start}-{len(content) - 1}/{len(content)}"
            self.head(206, Content_Length=str(len(content) - self.start), Content_Range=span, ETag=etag)
        else:
            self.start = 0
            self.head(200, Content_Length=str(len(content)), ETag=etag)
        self.body(content[self.start : stop])


def honest(exchange: Exchange) -> None:
    exchange.whole()


def slow(exchange: Exchange) -> None:
    """About a third of a second for the whole."""
    exchange.head(206 if exchange.start else 200, Content_Length=str(len(BODY) - exchange.start), ETag=ETAG,
                  Content_Range=f"bytes {exchange.start}-{len(BODY) - 1}/{len(BODY)}")  # fmt: skip
    for at in range(exchange.start, len(BODY), 100_000):
        exchange.body(BODY[at : at + 100_000])
        time.sleep(0.01)


def cut(exchange: Exchange) -> None:
    exchange.whole(stop=exchange.start + PART)


def no_length(exchange: Exchange) -> None:
    """Says no length, and ends early the first time."""
    if exchange.start:
        return exchange.whole()
    exchange.head(200, ETag=ETAG)
    exchange.body(BODY[:PART])


def no_length_ever_short(exchange: Exchange) -> None:
    exchange.head(200)
    exchange.body(BODY[:PART])


def reset(exchange: Exchange) -> None:
    if exchange.earlier:
        return exchange.whole()
    exchange.whole(stop=PART)
    time.sleep(0.1)  # a reset overtakes bytes that were not read yet
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stall(exchange: Exchange) -> None:
    if exchange.earlier:
        return exchange.whole()
    exchange.whole(stop=PART)
    exchange.connection.settimeout(20)
    exchange.connection.recv(1)  # until the client has had enough


def broken_once(exchange: Exchange) -> None:
    exchange.whole() if exchange.earlier else broken(exchange)


def broken(exchange: Exchange) -> None:
    exchange.head(503)


def absent(exchange: Exchange) -> None:
    exchange.head(404)


def busy_two_seconds(exchange: Exchange) -> None:
    if exchange.earlier and time.time() - float(exchange.earlier[0]["time"]) >= 1.9:
        return exchange.whole()
    exchange.head(429, Retry_After="2")


def busy_a_day(exchange: Exchange) -> None:
    exchange.whole() if exchange.earlier else exchange.head(429, Retry_After="86400")


def ignores_range(exchange: Exchange) -> None:
    first = not exchange.earlier
    exchange.start = 0
    exchange.whole(stop=PART if first else None)


def other_range(exchange: Exchange) -> None:
    if not exchange.start:
        return exchange.whole(stop=None if len(exchange.earlier) > 1 else PART)
    start = exchange.start + 1000
    exchange.head(206, Content_Length=str(len(BODY) - start), Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
    exchange.body(BODY[start:])


def replaced(exchange: Exchange) -> None:
    """Other bytes, under another ETag, are there at first."""
    if exchange.earlier:
        return exchange.whole()
    exchange.whole(bytes(len(BODY)), '"an-earlier-edition"', stop=PART)


def replaced_without_if_range(exchange: Exchange) -> None:
    exchange.headers = {name: value for name, value in exchange.headers.items() if name != "if-range"}
    replaced(exchange)


def not_satisfiable(exchange: Exchange) -> None:
    if exchange.start:
        return exchange.head(416, Content_Range=f"bytes */{len(BODY)}")
    exchange.whole(stop=None if exchange.earlier else PART)


def flipped(exchange: Exchange) -> None:
    exchange.whole(bytes([BODY[0] ^ 1]) + BODY[1:], '"flipped"')


def portal(exchange: Exchange) -> None:
    page = b"<html>Please log in to the network</html>"
    exchange.head(200, Content_Length=str(len(page)), Content_Type="text/html")
    exchange.body(page)


def endless(exchange: Exchange) -> None:
    exchange.head(200)
    for _ in range(20):  # bounded all the same
        exchange.body(bytes(len(BODY)))


def right_and_endless(exchange: Exchange) -> None:
    exchange.head(200)
    for _ in range(20):
        exchange.body(BODY)


def encoded(exchange: Exchange) -> None:
    exchange.head(200, Content_Length=str(len(BODY)), Content_Encoding="gzip")
    exchange.body(BODY)


def loop(exchange: Exchange) -> None:
    exchange.head(302, Location=exchange.path)


def moved(exchange: Exchange) -> None:
    exchange.head(302, Location=exchange.path.replace("/moved/", "/honest/"))


def to_plain_http(exchange: Exchange) -> None:
    exchange.head(302, Location="http://192.0.2.1/model.bin")


def to_file(exchange: Exchange) -> None:
    exchange.head(302, Location="file:///etc/passwd")


def to_this_machine(exchange: Exchange) -> None:
    exchange.head(302, Location="http://127.0.0.1:9/model.bin")


def names_paths(exchange: Exchange) -> None:
    """Honest bytes under headers that are paths."""
    exchange.head(200, Content_Length=str(len(BODY)), ETag='"../../../escaped"', Content_Location="/escaped",
                  Content_Disposition='attachment; filename="../../escaped"', Location="../../escaped")  # fmt: skip
    exchange.body(BODY if exchange.earlier else BODY[:PART])


class Handler(socketserver.BaseRequestHandler):
    requests: dict[str, list[dict[str, str]]] = {}  # noqa: RUF012 - shared by all connections, on purpose
    lock = threading.Lock()

    def handle(self) -> None:
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (chunk := self.request.recv(65536)):
                    return
                head += chunk
        except OSError:
            return  # the client does not trust the certificate
        first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
        path = urlsplit(first.split(" ")[1]).path  # a proxy is asked for the whole address
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self.lock:
            earlier = list(self.requests.get(path, []))
            self.requests.setdefault(path, []).append({**headers, "time": str(time.time())})
        try:
            if path == "/log":
                log = json.dumps(self.requests).encode()
                self.request.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + log)
            else:
                behaviour: Callable[[Exchange], None] = globals()[path.split("/")[1]]
                behaviour(Exchange(self.request, path, headers, earlier))
        except OSError:
            pass  # the client had enough


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Handler) as server:
        if len(sys.argv) > 1:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[1])
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print(server.server_address[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
