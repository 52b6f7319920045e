"""A server on this machine that takes chat requests strictly, and answers as a test says."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

_KNOWN = {"model", "messages", "stream", "temperature", "max_tokens", "logprobs", "top_logprobs"}


@dataclass
class Reply:
    """What the server sends.

    Attributes:
        content: JSON values, or bytes as they are.
        pause_s: before it.
        drip_s: between its bytes, which are sent one by one; 0 sends them at once.
        length: what Content-Length says; None is the truth.
        hang_up: end the connection in place of an answer.
    """

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    pause_s: float = 0.0
    drip_s: float = 0.0
    length: int | None = None
    hang_up: bool = False


def completion(
    text: Any, listed: Sequence[tuple[str, float]] | None = None, *, first: str | None = None
) -> dict[str, Any]:
    """Return a chat completion; `listed` are the likeliest first tokens with their log-probabilities."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if listed is not None:
        token = listed[0][0] if first is None else first
        tops = [{"token": one, "logprob": value, "bytes": None} for one, value in listed]
        said = {"token": token, "logprob": dict(listed).get(token, -9.0), "bytes": None, "top_logprobs": tops}
        choice["logprobs"] = {"content": [said]}
    return {"id": "1", "object": "chat.completion", "choices": [choice]}


Answering = Callable[[dict[str, Any]], Reply | dict[str, Any]]


@dataclass
class ChatServer:
    """Answers requests one after the other with `replies`, the last one for ever, or as a function says."""

    replies: Sequence[Reply | dict[str, Any]] | Answering = ()
    allowed: frozenset[str] = frozenset(_KNOWN)
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def reply(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        with self._lock:
            number = len(self.paths)
            self.paths.append(path)
            self.headers.append(dict(headers))
            self.times_s.append(time.monotonic())
        if path != "/v1/chat/completions":
            return Reply({"detail": "Not Found"}, status=404)
        try:
            request = json.loads(body)
            check(request, headers, self.allowed)
        except (ValueError, AssertionError, LookupError, TypeError) as error:
            return Reply({"error": {"message": f"bad request: {error!r}"}}, status=400)
        with self._lock:
            self.bodies.append(request)
        replies = self.replies
        found = replies(request) if callable(replies) else replies[min(number, len(replies) - 1)]
        return found if isinstance(found, Reply) else Reply(found)


def check(request: dict[str, Any], headers: Mapping[str, str], allowed: frozenset[str]) -> None:
    """Refuse what is no chat request with pictures."""
    assert headers["Content-Type"] == "application/json"
    assert set(request) <= allowed, set(request) - allowed
    assert isinstance(request["model"], str)
    assert request["stream"] is False
    assert ("top_logprobs" in request) == ("logprobs" in request)
    (message,) = request["messages"]
    assert message["role"] == "user"
    for part in message["content"]:
        if part["type"] == "text":
            assert set(part) == {"type", "text"}
            assert isinstance(part["text"], str)
        else:
            picture_of(part)


def picture_of(part: dict[str, Any]) -> Image.Image:
    """Decode a picture of a request."""
    assert part["type"] == "image_url"
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert picture.format == "JPEG"
    return picture


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        chat = self.server.chat
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with chat.working():
            reply = chat.reply(self.path, self.headers, body)
            time.sleep(reply.pause_s)
        if reply.hang_up:
            self.close_connection = True
            return
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(content) if reply.length is None else reply.length))
            self.end_headers()
            for start in range(0, len(content), 1 if reply.drip_s else max(len(content), 1)):
                self.wfile.write(content[start : start + 1] if reply.drip_s else content)
                time.sleep(reply.drip_s)
        except OSError:  # whoever asked has gone
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    chat: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def chat_server(
    replies: Sequence[Reply | dict[str, Any]] | Answering, *, also: Sequence[str] = ()
) -> Iterator[ChatServer]:
    """Serve on a free port of this machine; `also` are keys that requests may have beside the usual ones."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.chat = ChatServer(replies, allowed=frozenset({*_KNOWN, *also}))
    server.chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
