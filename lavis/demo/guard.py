"""What stands between the network and Gradio: it closes what the page does not need, and bounds and checks requests."""

import asyncio
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from gradio_client.utils import strip_invalid_filename_characters
from starlette.datastructures import FormData, Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from lavis.demo.files import VisitorFiles
from lavis.demo.settings import MEGABYTE, Settings

# Browsers send it back, so that nobody else can name what was uploaded from a page. Programs need not.
COOKIE = "sevila_visitor"
# A sender that is slower than this on average is cut off, once the first seconds are over.
PATIENCE_S = 30
LEAST_BYTES_PER_S = 50_000
_API = "/gradio_api"
_MAX_BODY = 256 * 1000
# All that the page, `gradio_client` and curl ask for. Whatever else Gradio answers, in this version or a later one, is
# closed: among it are routes that run ffmpeg on a visitor's file, fetch addresses, keep files and stream for ever.
_OPEN = {
    "GET": (
        r"/(?:config|theme\.css|favicon\.ico|robots\.txt)?",
        r"/(?:static|assets)/.+",
        rf"{_API}/(?:info|startup-events|queue/data)",
        rf"{_API}/heartbeat/[^/]+",
        rf"{_API}/call/(?:answer|find)/[^/]+",
        rf"{_API}/file=.+",
    ),
    "HEAD": (r"/", rf"{_API}/file=.+"),  # Gradio itself looks for its page like this
    "POST": (
        r"/login",
        rf"{_API}/(?:upload|queue/join|run/predict|cancel|reset|call/answer|call/find)",
    ),
}
_OPEN_PATHS = {method: re.compile("|".join(paths)) for method, paths in _OPEN.items()}
# Gradio builds its templates with `Function`, and its styles while it runs.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob: data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# "http:", "file:", "//host" and the like; one letter before the colon is a disk of Windows.
_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)
_FILE_FIELDS = ("path", "url")
_SLACK = 100_000  # what a multipart request adds to its file
_MAX_FILES = 8
_MAX_FIELDS, _MAX_FIELD_BYTES = 8, 1000
# Below the 1024 files that a process may usually have open.
MAX_CONNECTIONS = 512
# Connections are looked at this often; one that has no request twice in a row is closed.
LOOK_EVERY_S = 10
_GRACE_S = 1


class RefusedError(Exception):
    """A request that is not answered; the message is what the visitor is told."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def visitor_of(scope: Scope) -> str | None:
    """Return the cookie that the sender's browser is known by, or None for programs."""
    return Request(scope).cookies.get(COOKIE)


def content_length(scope: Scope) -> int | None:
    """Return the declared length of the body, or None where none is declared."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def in_time(receive: Receive) -> Receive:
    """Return a `receive` for one body, which raises `RefusedError` where it comes too slowly."""
    clock = asyncio.get_running_loop().time
    began, received = clock(), 0

    async def receive_in_time() -> Message:
        nonlocal received
        left_s = began + PATIENCE_S + received / LEAST_BYTES_PER_S - clock()
        try:
            message = await asyncio.wait_for(receive(), left_s)
        except asyncio.TimeoutError:
            raise RefusedError(408, "this came too slowly") from None
        received += len(message.get("body", b""))
        return message

    return receive_in_time


async def whole_body(scope: Scope, receive: Receive, *, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        RefusedError: it is larger than `most`, or comes too slowly.
        ClientDisconnect: the sender has gone.
    """
    body = b""
    if (content_length(scope) or 0) <= most:
        async for chunk in Request(scope, in_time(receive)).stream():
            body += chunk
            if len(body) > most:
                break
        else:
            return body
    raise RefusedError(413, "the request is too large")


def with_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then goes on."""
    read = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        return next(read, None) or await receive()

    return receive_again


class Guard:
    """ASGI middleware: an allow-list of routes, and checks of what is sent to them.

    Args:
        files: what may be read by path.
        upload: what answers uploads in Gradio's place, once the visitor is known to be let in.
    """

    def __init__(self, app: ASGIApp, *, files: VisitorFiles, upload: ASGIApp) -> None:
        self._app = app
        self._files = files
        self._upload = upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            try:
                await self._respond(scope, receive, _with_headers(send, scope))
            except ClientDisconnect:  # nobody is left to answer
                pass
            except RefusedError as refused:
                await PlainTextResponse(str(refused), status_code=refused.status)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = _path(scope), scope["method"]
        if method not in _OPEN_PATHS or not _OPEN_PATHS[method].fullmatch(path):
            raise RefusedError(404, "not found")
        if method != "POST":
            if content_length(scope) or "transfer-encoding" in Headers(scope=scope):
                raise RefusedError(413, "no content goes here")
            _, _, named = path.partition(f"{_API}/file=")
            if named and (not self._files.may_be_read(named) or self._files.is_anothers(named, visitor_of(scope))):
                raise RefusedError(404, "not found")
        elif path == f"{_API}/upload":
            await self._check_login(scope)
            await self._upload(scope, receive, send)
            return
        else:
            body = await whole_body(scope, receive, most=_MAX_BODY)
            if path != "/login":
                body, files = checked_json(body, Headers(scope=scope).get("content-type", ""))
                if any(self._files.is_anothers(file, visitor_of(scope)) for file in files):
                    raise RefusedError(404, "this file is not yours, or no longer here; upload it again")
                # Gradio gets what was checked, and not another reading of the same bytes.
                headers = MutableHeaders(raw=list(scope["headers"]))
                headers.update({"content-type": "application/json", "content-length": str(len(body))})
                del headers["transfer-encoding"], headers["content-encoding"]
                scope = {**scope, "headers": headers.raw}
            receive = with_body(body, receive)
        await self._app(scope, receive, send)

    async def _check_login(self, scope: Scope) -> None:
        """Ask Gradio whether the sender of a request may come in."""
        status = 0

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        path = f"{_API}/login_check"
        headers = [(name, value) for name, value in scope["headers"] if name in (b"cookie", b"host")]
        about = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
        await self._app({**scope, **about}, nothing, note)
        if status != 200:
            raise RefusedError(401, "not authenticated")


def checked_json(body: bytes, content_type: str) -> tuple[bytes, list[str]]:
    """Return a JSON body in one plain form, whatever way it was written, and the files that it names.

    Raises:
        RefusedError: it is no JSON or not declared as such, or it names an address as a file.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "not valid JSON") from None
    files = _named_files(content)
    if any(_ADDRESS.match(file) for file in files):
        raise RefusedError(400, "files are uploaded, not fetched from addresses")
    # Browsers let every site send any other type to this one.
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "send this as application/json")
    return json.dumps(content).encode(), files


def _path(scope: Scope) -> str:
    """Return the path without the prefix that the page may be served under."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


def _named_files(content: Any) -> list[str]:
    """Return the paths and addresses of all files in it that Gradio would take or fetch."""
    found, waiting = [], [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found += [name for field in _FILE_FIELDS if isinstance(name := part.get(field), str)]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def _with_headers(send: Send, scope: Scope) -> Send:
    is_new = _path(scope) == "/" and visitor_of(scope) is None

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if is_new:
                headers.append("set-cookie", f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax")
        await send(message)

    return send_with_headers


class Uploads:
    """ASGI application: keeps the files of a multipart request and answers with their paths, as Gradio would."""

    def __init__(self, files: VisitorFiles, settings: Settings) -> None:
        self._files = files
        self._max_bytes = settings.max_upload_mb * MEGABYTE
        self._max_stored = settings.max_stored_mb * MEGABYTE
        self._max_per_address = settings.max_jobs_per_address
        self._announced = 0
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the files of one request; of a request that is broken off nothing stays.

        Raises:
            RefusedError: too large, too slow, too many at once, no room, or nothing in it.
            ClientDisconnect: the sender has gone.
        """
        address = scope["client"][0] if scope.get("client") else ""
        form = Request(scope, in_time(receive)).form(
            max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
        )
        with self._room(content_length(scope), address):
            try:
                async with form as sent:
                    paths = [str(await self._keep(file, visitor_of(scope))) for file in self._files_in(sent)]
            except HTTPException as error:
                raise RefusedError(400, str(error.detail)) from error
        await JSONResponse(paths)(scope, receive, send)

    @contextmanager
    def _room(self, length: int | None, address: str) -> Iterator[None]:
        """Reserve room for an upload during the block."""
        if length is None:
            raise RefusedError(411, "a length is needed")
        if length > self._max_bytes + _SLACK:
            raise RefusedError(413, "the file is too large")
        if self._under_way[address] >= self._max_per_address:
            raise RefusedError(429, "too many uploads at once from your network; try again in a moment")
        # Those under way count as if they were here, so the share is overrun by one of them at most.
        if self._files.size() + self._announced > self._max_stored:
            raise RefusedError(507, "there is no room for more files; try again in an hour")
        self._announced += length
        self._under_way[address] += 1
        try:
            yield
        finally:
            self._announced -= length
            self._under_way -= Counter([address])

    def _files_in(self, form: FormData) -> list[UploadFile]:
        sent = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not sent:
            raise RefusedError(400, "there is no file in it")
        if any((file.size or 0) > self._max_bytes for file in sent):
            raise RefusedError(413, "the file is too large")
        return sent

    async def _keep(self, file: UploadFile, owner: str | None) -> Path:
        name = strip_invalid_filename_characters(Path(file.filename or "").name).lstrip(".") or "file"
        try:
            return await to_thread.run_sync(partial(self._files.take, name, file.file, owner=owner))
        except OSError:  # the disk is full, or the page is being closed
            raise RefusedError(507, "there is no room for more files; try again in an hour") from None


class BoundedProtocol(H11Protocol):
    """One connection: it is closed where there are too many, in all or `per_address`, or no request comes over it.

    Uvicorn waits for ever for the end of a request's headers, and for the rest of a body that it has refused.
    """

    def __init__(self, *args: Any, per_address: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._per_address = per_address
        self._look_again: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it."""
        super().connection_made(transport)
        from_here = sum(_address(other) == _address(self) for other in self.connections)
        if len(self.connections) > MAX_CONNECTIONS or from_here > self._per_address:
            transport.abort()
        else:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        if self._look_again:
            self._look_again.cancel()

    def _look_later(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        look = self._look_later if not idle else partial(self._close_unless_asked, self.cycle)
        self._look_again = self.loop.call_later(LOOK_EVERY_S, look)

    def _close_unless_asked(self, last: Any) -> None:
        if self.cycle is last:
            self.transport.abort()
        else:
            self._look_later()


def bound_connections(server: Server, *, per_address: int) -> None:
    """Bound the connections that a running server takes from now on, and the time that it needs to end."""
    protocol: Any = partial(BoundedProtocol, per_address=per_address)
    server.config.http_protocol_class = protocol
    # Pages keep their connections open; without this, ending would wait for all of them.
    server.config.timeout_graceful_shutdown = _GRACE_S


def _address(connection: Any) -> str | None:
    return connection.client[0] if connection.client else None
