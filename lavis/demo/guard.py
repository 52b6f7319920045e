"""What stands between the network and Gradio: no request leaves the machine, in either direction."""

import json
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_BODY = 256 * 1000
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
_ADDRESSES = ("http:", "https:", "ftp:", "file:", "data:", "//")


class Guard:
    """ASGI middleware.

    Gradio fetches addresses that a client names, as files to serve or as inputs. Here nobody may ask for that. And
    uploads end where the disk's share for them ends.

    Args:
        is_full: whether there is no room for more uploads.
        max_upload_bytes: what a request with an upload may be at most.
    """

    def __init__(self, app: ASGIApp, *, is_full: Callable[[], bool], max_upload_bytes: int) -> None:
        self._app = app
        self._is_full = is_full
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and _is_json(scope):
            body = await _body(Request(scope, receive))
            refusal = _refused_body(body)
            receive = _again(body or b"", receive)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        path = scope["path"]
        _, _, named = path.partition("/file=")
        if named.lower().startswith(_ADDRESSES) or "/proxy=" in path:
            return PlainTextResponse("not found", status_code=404)
        if scope["method"] == "POST" and path.rstrip("/").endswith("/upload"):
            length = Headers(scope=scope).get("content-length", "")
            if not length.isdecimal():
                return PlainTextResponse("a length is needed", status_code=411)
            if int(length) > self._max_upload_bytes:
                return PlainTextResponse("the file is too large", status_code=413)
            if self._is_full():
                return PlainTextResponse("there is no room for more files; try again in an hour", status_code=507)
        return None


def _is_json(scope: Scope) -> bool:
    return scope["method"] == "POST" and Headers(scope=scope).get("content-type", "").startswith("application/json")


async def _body(request: Request) -> bytes | None:
    """Return the body, or None where it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            return None
    return body


def _refused_body(body: bytes | None) -> PlainTextResponse | None:
    if body is None:
        return PlainTextResponse("the request is too large", status_code=413)
    try:
        content = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return PlainTextResponse("not valid JSON", status_code=400)
    if _names_an_address(content):
        return PlainTextResponse("files are uploaded, not fetched from addresses", status_code=400)
    return None


def _names_an_address(content: Any) -> bool:
    """Whether there is a file in it that Gradio would fetch."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            path = part.get("path")
            if isinstance(path, str) and path.strip().lower().startswith(_ADDRESSES):
                return True
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return False


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then goes on."""
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
