"""Connections to the page: only so many, and none that asks for nothing."""

import asyncio
from functools import partial
from typing import Any

from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

# Below the 1024 files that a process may usually have open.
MAX_CONNECTIONS = 512
# A connection without a request is closed when it is found so twice in a row.
LOOK_EVERY_S = 10
_GRACE_S = 1


class BoundedProtocol(H11Protocol):
    """One connection: it is closed where there are too many, or where no request comes over it.

    Uvicorn waits for ever for the end of a request's headers, and for the rest of a body that it has refused.

    Args:
        per_address: connections from one network address.
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
