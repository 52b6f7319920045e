"""What stands between the network and Gradio: what is not needed is closed, what is sent is bounded and looked at."""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lavis.demo.files import VisitorFiles
from lavis.demo.requests import COOKIE, RefusedError, content_length, visitor_of, whole_body, with_body

_API = "/gradio_api"
_MAX_BODY = 256 * 1000
# All that the page, `gradio_client` and curl ask for. Whatever else Gradio answers, in this version or a later one, is
# closed: among it are routes that run ffmpeg on a visitor's file, fetch addresses, keep files and stream for ever.
_OPEN = {
    "GET": (
        r"/",
        r"/config",
        r"/theme\.css",
        r"/favicon\.ico",
        r"/robots\.txt",
        r"/(?:static|assets)/.+",
        rf"{_API}/(?:info|startup-events|queue/data)",
        rf"{_API}/heartbeat/[^/]+",
        rf"{_API}/call/(?:answer|find)/[^/]+",
        rf"{_API}/file=.+",
    ),
    "HEAD": (r"/", rf"{_API}/file=.+"),  # Gradio itself looks for its page like this
    "POST": (
        r"/login",
        rf"{_API}/upload",
        rf"{_API}/(?:queue/join|run/predict|cancel|reset)",
        rf"{_API}/call/(?:answer|find)",
    ),
}
_OPEN_PATHS = {method: re.compile("|".join(paths)) for method, paths in _OPEN.items()}
# Gradio builds its templates with `Function`, and its styles while it runs.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' blob: data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# "http:", "file:", "//host" and the like; one letter before the colon is a disk of Windows.
_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)
_FILE_FIELDS = ("path", "url")

Respond = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware: an allow-list of routes, and a look at what is sent to them.

    Args:
        files: what may be read by path.
        upload: what answers uploads in Gradio's place, once the visitor is known to be let in.
    """

    def __init__(self, app: ASGIApp, *, files: VisitorFiles, upload: Respond) -> None:
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
        if not is_open(method, path):
            raise RefusedError(404, "not found")
        if method != "POST":
            _check_no_body(scope)
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
                # Gradio gets what was looked at, and not another reading of the same bytes.
                scope = {**scope, "headers": _json_headers(scope, len(body))}
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


def is_open(method: str, path: str) -> bool:
    """Whether a request is let through to Gradio."""
    return method in _OPEN_PATHS and _OPEN_PATHS[method].fullmatch(path) is not None


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


def _check_no_body(scope: Scope) -> None:
    if content_length(scope) or "transfer-encoding" in Headers(scope=scope):
        raise RefusedError(413, "no content goes here")


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


def _json_headers(scope: Scope, length: int) -> list[tuple[bytes, bytes]]:
    replaced = (b"content-type", b"content-length", b"transfer-encoding", b"content-encoding")
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in replaced]
    return [*kept, (b"content-type", b"application/json"), (b"content-length", str(length).encode())]


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
