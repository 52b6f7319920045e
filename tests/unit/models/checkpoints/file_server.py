"""A file server on this machine that breaks off, changes its mind, and lies as it is told to."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class Server:
    """A file server with a bad connection.

    Attributes:
        files: content by path.
        version: the ETag; None makes one of the content.
        cut_after: bytes after which each connection breaks; None never breaks.
        headers: sent beside the usual ones.
        requests: (method, path, Range header) so far.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    version: str | None = '"1"'
    ranges: bool = True
    cut_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def url(self, name: str = "weights.pth") -> str:
        return f"{self.address}/{name}"

    def ranges_asked(self) -> list[str | None]:
        return [asked for _, _, asked in self.requests]


class _Handler(BaseHTTPRequestHandler):
    state: ClassVar[Server]

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, *, send_body: bool) -> None:
        state, asked = self.state, self.headers.get("Range")
        state.requests.append((self.command, self.path, asked))
        content = state.files.get(self.path)
        if content is None:
            # The second header is what the hub says.
            self._head(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
            return
        version = state.version or f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        if asked and state.ranges and self.headers.get("If-Range", version) == version:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(content):
            self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        headers = {"ETag": version, "Content-Length": str(len(content) - start), **state.headers}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, headers)
        if send_body:
            end = len(content) if state.cut_after is None else start + state.cut_after
            self.wfile.write(content[start:end])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files, by path, on a free port."""
    state = Server(files=files)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
