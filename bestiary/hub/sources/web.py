"""`url:` sources and web mirrors: https through urllib3, resumed, retried, and bounded in everything a server can choose.

The address comes from the card and the path from the store; of what a server sends, only bytes of the body are kept, and
an ETag (RFC 9110, section 8.8.3) to be sent back to it. Ranges are those of RFC 9110, section 14.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from bestiary.errors import BestiaryError, IntegrityError, OfflineError, SourceError
from bestiary.hub.names import is_url
from bestiary.hub.records import BaseCard, File, SourceSpec
from bestiary.hub.sources import Sink, Source
from bestiary.hub.verify import CHUNK

REDIRECTS = 5
TRIES = 1000  # for one file, however much each of them brings

_STRONG_ETAG = re.compile(r'"[!#-~]{1,200}"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_PASSING = {408, 429, 500, 502, 503, 504}  # what may be over in a moment


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to bear with a server; times in seconds."""

    connect: float = 10.0
    stall: float = 30.0  # without a byte
    tries: int = 5  # in a row that bring nothing new
    pause: float = 0.5  # before the second try; doubles with each that brings nothing
    longest_pause: float = 60.0  # whatever its Retry-After says


class _Again(Exception):
    """A try failed in a way that the next one may not; `reason` is what to raise when there is no next one."""

    def __init__(self, reason: BestiaryError, wait: float = 0.0) -> None:
        self.reason = reason
        self.wait = wait


class WebSource(Source):
    """`address` says under which URL a file lies."""

    remote = True
    patience = Patience()

    def __init__(self, label: str, address: Callable[[File], str]) -> None:
        self.label = label
        self.address = address
        self._pools: dict[str, urllib3.PoolManager] = {}

    @classmethod
    def of_card(cls, spec: SourceSpec, card: BaseCard) -> WebSource:
        """The prefix that a card names, with the name of the file added."""
        prefix = spec.address.rstrip("/")
        return cls(prefix, lambda file: f"{prefix}/{quote(spec.names.get(file.name, file.name))}")

    @classmethod
    def of_mirror(cls, address: str) -> WebSource:
        """A prefix that keeps each file as `sha256/<digest>`."""
        prefix = address.rstrip("/")
        return cls(f"mirror {prefix}", lambda file: f"{prefix}/sha256/{file.sha256}")

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def obtain(self, file: File, sink: Sink) -> None:
        url = self.address(file)
        if not is_url(url):
            raise SourceError(f"{url}: only https is fetched from, or plain http on this machine.\nCorrect the address.")
        fruitless, most = 0, 0
        for attempt in range(TRIES):
            try:
                self._try(url, file, sink)
                return
            except _Again as again:
                fruitless = 0 if sink.offset > most else fruitless + 1
                most = max(most, sink.offset)
                unreachable_at_once = attempt == 0 and isinstance(again.reason, OfflineError)
                if unreachable_at_once or fruitless >= self.patience.tries or attempt == TRIES - 1:
                    raise again.reason from again.__cause__
                pause = max(again.wait, self.patience.pause * 2**fruitless)
                time.sleep(min(pause, self.patience.longest_pause))

    def _try(self, url: str, file: File, sink: Sink) -> None:
        if file.size is None:
            sink.restart()  # without a size nobody can tell a rest from a whole
        start = sink.offset
        if start and start == file.size:
            return
        try:
            response = self._request(url, self._headers(url, sink))
            try:
                size = self._accept(response, url, file, sink)
                while sink.offset < size:
                    # Whatever has come, not a full chunk: what a broken connection brought is kept.
                    chunk = response.read1(min(CHUNK, size - sink.offset))
                    if not chunk:
                        raise _Again(SourceError(f"{url} ends after {sink.offset} of {size} bytes.\nTry again later."))
                    sink.write(chunk)
            finally:
                # What a server sends beyond the size is not waited for, so its connection serves no further request.
                response.close()
        except HTTPError as error:
            raise _failure(url, error) from error

    def _headers(self, url: str, sink: Sink) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "bestiary"}
        if sink.offset:
            headers["Range"] = f"bytes={sink.offset}-"
            if etag := _etag(url, sink):
                headers["If-Range"] = etag
        return headers

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib3.HTTPResponse:
        """The first answer that is not a redirect."""
        timeout = urllib3.Timeout(connect=self.patience.connect, read=self.patience.stall)
        target = url
        for _ in range(REDIRECTS + 1):
            answer = self._pool(target).request(
                "GET", target, headers=headers, redirect=False, retries=False, timeout=timeout,
                preload_content=False, decode_content=False,
            )  # fmt: skip
            response = cast(urllib3.HTTPResponse, answer)
            location = response.get_redirect_location()
            if not location:
                if response.status in (401, 403) and target != url:
                    # A signed address has run out: the next try asks for a new one.
                    response.close()
                    raise _Again(SourceError(f"{url} redirects to an address that answers {response.status}."))
                return response
            response.close()
            target = urljoin(target, location)
            allowed = urlsplit(target)
            if not is_url(f"{allowed.scheme}://{allowed.netloc}/") or (target[:5] == "http:" and url[:6] == "https:"):
                raise SourceError(f"{url} redirects to an address that is not https.\nUse another source.")
        raise SourceError(f"{url} redirects more than {REDIRECTS} times.\nUse another source.")

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
        return self._pools[proxy]

    def _accept(self, response: urllib3.HTTPResponse, url: str, file: File, sink: Sink) -> int:
        """Decide on the answer's head where its body goes. Returns the size of the whole file."""
        if response.status in _PASSING:
            raise _Again(SourceError(f"{url} answers {response.status}.\nTry again later."), _retry_after(response))
        if response.status == 416 and sink.offset:
            sink.restart()
            raise _Again(SourceError(f"{url} refuses to be continued.\nTry again later."))
        if response.status not in (200, 206):
            raise SourceError(f"{url} answers {response.status}.\nCheck the address in the card, or use another source.")
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise SourceError(f"{url} sends an encoding that was not asked for.\nUse another source.")
        return (self._accept_rest if response.status == 206 else self._accept_whole)(response, url, file, sink)

    def _accept_whole(self, response: urllib3.HTTPResponse, url: str, file: File, sink: Sink) -> int:
        if sink.offset:
            sink.restart()
        length = response.headers.get("Content-Length", "")
        announced = int(length) if re.fullmatch(r"\d{1,19}", length) else None
        size = announced if file.size is None else file.size
        if size is None:
            raise SourceError(f"{url} does not say how long it is, nor does the card.\nUse another source.")
        if announced not in (None, size):
            raise IntegrityError(f"{url} sends {announced} bytes where the card says {size}.\nUse another source.")
        etag = response.headers.get("ETag", "")
        if _STRONG_ETAG.fullmatch(etag):
            sink.mark = f"{url} {etag}"
        return size

    def _accept_rest(self, response: urllib3.HTTPResponse, url: str, file: File, sink: Sink) -> int:
        size = file.size
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        etag = _etag(url, sink)
        fits = match and int(match[1]) == sink.offset and match[3] in ("*", str(size))
        same = etag is None or response.headers.get("ETag", etag) == etag
        if size is None or not sink.offset or not fits or not same:
            if sink.offset:
                sink.restart()
            raise _Again(SourceError(f"{url} sends another part than was asked for.\nUse another source."))
        return size


def _etag(url: str, sink: Sink) -> str | None:
    """The ETag under which the bytes in the sink came from this very URL."""
    origin, _, etag = (sink.mark or "").partition(" ")
    return etag if origin == url and _STRONG_ETAG.fullmatch(etag) else None


def _retry_after(response: urllib3.HTTPResponse) -> float:
    try:
        return urllib3.Retry().get_retry_after(response) or 0.0
    except InvalidHeader:
        return 0.0


def _failure(url: str, error: HTTPError) -> BestiaryError | _Again:
    host = urlsplit(url).netloc
    if isinstance(error, SSLError):
        return SourceError(f"{host}: no secure connection ({error}).\nCheck the clock and the certificates of this machine.")
    if isinstance(error, NewConnectionError | ConnectTimeoutError | ProxyError):
        return _Again(OfflineError(f"{host} cannot be reached.\nCheck the network."))
    if isinstance(error, ReadTimeoutError):
        return _Again(SourceError(f"{url} stalled.\nTry again later."))
    return _Again(SourceError(f"{url} broke off.\nTry again later."))
