"""What a visitor sends: read in bounded size and time."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

# Browsers send it back, so that nobody else can name what was uploaded from a page. Programs need not.
COOKIE = "sevila_visitor"
# Who sends is cut off once it is slower than this on average, after some seconds for a start.
PATIENCE_S = 30
LEAST_BYTES_PER_S = 50_000


class RefusedError(Exception):
    """A request that is not answered; the message is what the visitor is told."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def visitor_of(scope: Scope) -> str | None:
    """Return by what the sender's browser is known, or None for programs."""
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
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
