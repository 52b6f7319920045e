"""Requests to an OpenAI-compatible server, bounded in time, size, number and tries.

Only the address that was named is asked: redirects are not followed, and a proxy of the environment is not used for
this machine itself. A key comes from the environment, is read for each request, and is kept nowhere.
"""

import email.utils
import http.client
import ipaddress
import json
import logging
import math
import os
import random
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lavis.common.defaults import VERSION
from lavis.common.errors import ConfigError, FaultError, counted
from lavis.common.logging import visible

logger = logging.getLogger(__name__)

KEY_VARIABLE, OPENAI_KEY_VARIABLE = "SEVILA_API_KEY", "OPENAI_API_KEY"
_OPENAI_HOST = "api.openai.com"
_CONNECT_S = 10.0
_LONGEST_WAIT_S = 60.0  # that a server may ask for
_LARGEST_BACKOFF_S = 8.0
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_READ_AT_ONCE = 2**16
_SHOWN_CHARACTERS = 300
_EXAMPLE = "http://127.0.0.1:8000/v1"

Body = Mapping[str, Any]


def checked_url(url: str) -> str:
    """Return the base address of a server without a slash at its end.

    Raises:
        ConfigError: it is no address, or holds what does not belong there. A password in it is not repeated.
    """
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError:
        parts, port_is_fine = SplitResult("", "", "", "", ""), False
    if "@" in parts.netloc:
        raise ConfigError(
            f"the address of the server {parts.hostname} holds a user or a password; leave them out, and give a key in "
            f"the environment variable {KEY_VARIABLE}"
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"the address of the server {parts.hostname} goes on after ? or #; give one such as {_EXAMPLE}, and a key "
            f"in the environment variable {KEY_VARIABLE}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine or not _is_plain(url):
        raise ConfigError(f"{url!r:.200} is not the address of a server; give one such as {_EXAMPLE}")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Say whether an address is of this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def api_key(url: str) -> str | None:
    """Return the key for a server from the environment, or None.

    `OPENAI_API_KEY` is for OpenAI's own server and sent nowhere else.

    Raises:
        ConfigError: it would be readable on its way, or cannot be sent. It is not repeated.
    """
    names = (KEY_VARIABLE, OPENAI_KEY_VARIABLE) if urlsplit(url).hostname == _OPENAI_HOST else (KEY_VARIABLE,)
    for name in names:
        key = os.environ.get(name, "").strip()
        if not key:
            continue
        if not _is_plain(key):
            raise ConfigError(f"the key in {name} holds spaces or characters that no key has; set it again")
        if url.startswith("http:") and not is_loopback(url):
            raise ConfigError(
                f"the key in {name} would go to {urlsplit(url).hostname} unencrypted; use https, or unset {name} for a "
                "server that needs none"
            )
        return key
    return None


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


class ChatClient:
    """Asks one server for chat completions; safe for several threads.

    Args:
        url: base address, such as "http://127.0.0.1:8000/v1".
        timeout_s: for one try of one request, from its beginning to the last byte of the response.
        retries: tries after the first, where the server is busy or cannot be reached.
        concurrency: requests under way at once.
        backoff_s: about how long it waits before the first retry; doubled with each.
        max_bytes: of a response.

    Raises:
        ConfigError: see `checked_url` and `api_key`, or a number that cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 120.0,
        retries: int = 4,
        concurrency: int = 4,
        backoff_s: float = 0.5,
        max_bytes: int = 2**22,
    ) -> None:
        self.url = checked_url(url)
        api_key(self.url)
        if not _is_number(timeout_s, float) or not 0 < timeout_s < threading.TIMEOUT_MAX:
            raise ConfigError(f"timeout_s is {timeout_s!r}; give seconds, more than 0")
        for name, value, least in (("retries", retries, 0), ("concurrency", concurrency, 1)):
            if not _is_number(value, int) or value < least:
                raise ConfigError(f"{name} is {value!r}; give a whole number, {least} or more")
        self._timeout_s, self._retries, self._concurrency = timeout_s, retries, concurrency
        self._backoff_s, self._max_bytes = backoff_s, max_bytes
        # An opener without handlers of redirects, and of other kinds of addresses.
        self._opener = urllib.request.OpenerDirector()
        proxies = urllib.request.ProxyHandler({} if is_loopback(self.url) else None)
        for handler in (proxies, _Http(), _Https()):
            self._opener.add_handler(handler)

    def complete_all(self, bodies: Iterable[Body]) -> Iterator[dict[str, Any]]:
        """Yield the response to each request, in their order; some are under way while the next are made.

        Raises:
            ConfigError: the server refuses a request, or does not answer as such a server does.
            FaultError: it cannot be reached, is too slow, or fails after all retries.
        """
        calls = _Calls()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="chat")
        waiting: deque[Future[dict[str, Any]]] = deque()
        try:
            for body in bodies:
                waiting.append(pool.submit(self._complete, body, calls))
                if len(waiting) >= 2 * self._concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            calls.stop()
            pool.shutdown(wait=False, cancel_futures=True)

    def _complete(self, body: Body, calls: "_Calls") -> dict[str, Any]:
        """Ask until there is a response."""
        tried = 0
        while True:
            try:
                return self._try(body, calls)
            except _TryAgainError as failure:
                reason, asked_s = failure.reason, failure.retry_after_s
            if asked_s > _LONGEST_WAIT_S:
                raise FaultError(f"{self.url} is busy, and asks to come back in {asked_s:.0f} s; do so")
            wait_s = min(self._backoff_s * 2**tried, _LARGEST_BACKOFF_S) * random.uniform(0.5, 1)
            tried += 1
            if tried > self._retries or calls.wait(max(wait_s, asked_s)):
                raise FaultError(f"{self.url}: {reason}, tried {counted(tried, 'time')}; see whether the server runs")
            logger.info("%s: %s; trying again", self.url, reason)

    def _try(self, body: Body, calls: "_Calls") -> dict[str, Any]:
        """Ask once."""
        key = api_key(self.url)
        request = _Request(f"{self.url}/chat/completions", data=json.dumps(body).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        request.add_header("User-Agent", f"sevila/{VERSION}")
        if key is not None:
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with calls.under_way(request, timeout_s=self._timeout_s):
            try:
                with self._opener.open(request, timeout=self._timeout_s) as response:
                    content = _read(response, most=self._max_bytes)
                if request.is_broken_off:  # which looks like the end of the response
                    raise TimeoutError
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise self._explained(error, request) from None
        if response.status in _BUSY or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            reason = f"error {response.status}{_told(content, key)}"
            raise _TryAgainError(reason, _retry_after_s(response.headers.get("Retry-After")))
        self._check(response, content, key)
        return self._parsed(response, content)

    def _explained(self, error: Exception, request: "_Request") -> Exception:
        """Return the error to raise where there was no response."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if request.is_broken_off or (isinstance(cause, TimeoutError) and request.is_connected):
            return FaultError(
                f"{self.url} has not answered within {self._timeout_s:g} s; allow more with timeout_s, or ask with "
                "fewer or smaller pictures"
            )
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConfigError(f"{self.url} has a certificate that is not trusted ({cause.verify_message})")
        said = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause) or type(cause).__name__
        state = "the connection broke" if request.is_connected else "cannot be reached"
        return _TryAgainError(f"{state} ({_shown(said, None)})")

    def _check(self, response: http.client.HTTPResponse, content: bytes | None, key: str | None) -> None:
        """Refuse what is no response to the request.

        Raises:
            ConfigError: the server refuses it, or sends it elsewhere.
        """
        status = response.status
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            place = _shown(response.headers.get("Location", "elsewhere"), key)
            raise ConfigError(f"{self.url} redirects to {place}, which is not followed; name the server's own address")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            of_openai = urlsplit(self.url).hostname == _OPENAI_HOST
            names = f"{KEY_VARIABLE} or {OPENAI_KEY_VARIABLE}" if of_openai else KEY_VARIABLE
            refused = "does not accept the key" if key else "wants a key"
            raise ConfigError(f"{self.url} {refused} (error {status}); give one in the environment variable {names}")
        if status >= HTTPStatus.BAD_REQUEST:
            hint = f"; most addresses end in /v1, as {_EXAMPLE} does" if status == HTTPStatus.NOT_FOUND else ""
            raise ConfigError(f"{self.url} refuses the request with error {status}{_told(content, key)}{hint}")

    def _parsed(self, response: http.client.HTTPResponse, content: bytes | None) -> dict[str, Any]:
        """Return the JSON of a response.

        Raises:
            ConfigError: it is none, or too large.
        """
        if content is None:
            raise ConfigError(f"{self.url} answers with more than {self._max_bytes} bytes, which no answer here has")
        kind = response.headers.get_content_type()
        if kind != "application/json":
            raise ConfigError(f"{self.url} answers with {kind}, not JSON; name the address of an API, as {_EXAMPLE} is")
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{self.url} answers with JSON that is broken, or no object; see what server it is")
        return found


class _TryAgainError(Exception):
    """A try failed that may succeed another time; the server may ask to wait for that."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


class _Calls:
    """Requests that are made together, and given up together."""

    def __init__(self) -> None:
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._requests: set[_Request] = set()

    @contextmanager
    def under_way(self, request: "_Request", *, timeout_s: float) -> Iterator[None]:
        """End a request where the block takes longer, or all are given up."""
        timer = threading.Timer(timeout_s, request.break_off)
        timer.daemon = True
        timer.start()
        with self._lock:
            self._requests.add(request)
            if self._stopped.is_set():
                request.break_off()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._requests.discard(request)

    def wait(self, seconds: float) -> bool:
        """Wait; where all are given up, return true at once."""
        return self._stopped.wait(seconds)

    def stop(self) -> None:
        """Give all up."""
        self._stopped.set()
        with self._lock:
            for request in self._requests:
                request.break_off()


class _Request(urllib.request.Request):
    """A request that can be ended from another thread."""

    is_broken_off, _socket = False, None

    @property
    def is_connected(self) -> bool:
        """Whether its connection stands."""
        return self._socket is not None

    def connected(self, connection: socket.socket) -> None:
        """Note the connection that it goes over."""
        self._socket = connection
        if self.is_broken_off:
            self.break_off()

    def break_off(self) -> None:
        """Let whoever reads from or writes to the connection fail."""
        self.is_broken_off = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # also below TLS


class _Connection(http.client.HTTPConnection):
    """A connection of one request."""

    def __init__(self, host: str, *, request: _Request, **options: Any) -> None:
        super().__init__(host, **options)
        self._request = request

    def connect(self) -> None:
        """Connect within a bounded time, and tell the request."""
        whole_s = self.timeout
        self.timeout = min(whole_s or _CONNECT_S, _CONNECT_S)
        super().connect()
        self.sock.settimeout(whole_s)
        self._request.connected(self.sock)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    """Opens requests over connections that can be broken off."""

    def http_open(self, request: Any) -> Any:
        """Send a request and return the response."""
        return self.do_open(partial(_Connection, request=request), request)


class _Https(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def __init__(self) -> None:
        self._trusted = ssl.create_default_context()
        super().__init__(context=self._trusted)

    def https_open(self, request: Any) -> Any:
        """Send a request and return the response."""
        return self.do_open(partial(_SecureConnection, request=request), request, context=self._trusted)


def _read(response: http.client.HTTPResponse, *, most: int) -> bytes | None:
    """Return the body of a response, or None where it is larger."""
    content = bytearray()
    while part := response.read(_READ_AT_ONCE):
        content += part
        if len(content) > most:
            return None
    if response.length:  # not said by itself before Python 3.14
        raise http.client.IncompleteRead(bytes(content), response.length)
    return bytes(content)


def _retry_after_s(value: str | None) -> float:
    """Return the seconds that a server asks to wait, given as a number or a date; 0 where it says nothing."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _told(content: bytes | None, key: str | None) -> str:
    """Return what a server says of an error, to be added to a message."""
    text = (content or b"").decode(errors="replace")
    try:
        found: Any = json.loads(text)
        for name in ("error", "detail", "message"):
            found = found.get(name, found) if isinstance(found, dict) else found
        text = found if isinstance(found, str) else text if found else ""
    except (ValueError, RecursionError):
        pass
    return f": {_shown(text, key)}" if text.strip() else ""


def _shown(text: str, key: str | None) -> str:
    """Return one short line of what a server says, without the key."""
    line = " ".join(text.split())
    return visible(line.replace(key, "[key]") if key else line)[:_SHOWN_CHARACTERS]


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, (int, kind)) and not isinstance(value, bool)
