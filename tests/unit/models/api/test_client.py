import http.server
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

from lavis.common.errors import ConfigError, FaultError, UserError
from lavis.models.api import client
from lavis.models.api.client import ChatClient, api_key, checked_url, is_loopback
from tests.unit.models.api.chat_server import ChatServer, Reply, chat_server, completion

KEY = "sk-never-to-be-seen-0123456789"
BODY = {"model": "m", "messages": [{"role": "user", "content": []}], "stream": False}
FINE = completion("A")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEVILA_API_KEY", "OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def client_of(server: ChatServer, **options: Any) -> ChatClient:
    return ChatClient(server.url, **{"backoff_s": 0.01, "timeout_s": 5, **options})


def ask(server: ChatServer, **options: Any) -> dict[str, Any]:
    (found,) = client_of(server, **options).complete_all([BODY])
    return found


def test_a_request_is_sent_once_to_the_address_that_was_named() -> None:
    with chat_server([FINE]) as server:
        assert ask(server) == FINE
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies == [BODY]
    assert "Authorization" not in server.headers[0]
    assert server.headers[0]["User-Agent"].startswith("sevila/")


def test_requests_keep_their_order_and_only_some_are_under_way() -> None:
    def answering(body: dict[str, Any]) -> Reply:
        number = int(body["model"])
        return Reply(completion(str(number)), pause_s=0.05 if number % 3 == 0 else 0)

    made: list[int] = []

    def bodies() -> Iterator[dict[str, Any]]:
        for number in range(20):
            made.append(number)
            yield {**BODY, "model": str(number)}

    with chat_server(answering) as server:
        for done, found in enumerate(client_of(server, concurrency=3).complete_all(bodies())):
            assert found == completion(str(done))
            assert len(made) <= done + 6
    assert len(server.paths) == 20
    assert 1 < server.most_at_once <= 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_busy_server_is_asked_again(status: int) -> None:
    busy = Reply({"error": {"message": "busy"}}, status=status)
    with chat_server([busy, busy, FINE]) as server:
        assert ask(server) == FINE
    assert len(server.paths) == 3


def test_a_server_that_stays_busy_is_given_up_with_what_it_said() -> None:
    told = r"/v1: error 503: no room, tried 3 times; see whether the server runs$"
    busy = Reply({"error": {"message": "no\nroom"}}, status=503)
    with chat_server([busy]) as server, pytest.raises(FaultError, match=told):
        ask(server, retries=2)
    assert len(server.paths) == 3


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client waits, which it does not do here."""
    waited: list[float] = []
    monkeypatch.setattr(client._Calls, "wait", lambda _, seconds: waited.append(seconds))
    return waited


def test_waiting_grows(waits: list[float]) -> None:
    with chat_server([Reply(status=503)] * 4 + [FINE]) as server:
        ask(server, backoff_s=0.1)
    for wait, most in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert most / 2 <= wait <= most


def test_a_client_waits_before_it_asks_again() -> None:
    with chat_server([Reply(status=503), FINE]) as server:
        ask(server, backoff_s=0.2)
    assert server.times_s[1] - server.times_s[0] >= 0.1


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_asks_for_time_gets_it(
    as_date: bool, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_700_000_000
    monkeypatch.setattr(client, "time", SimpleNamespace(time=lambda: now + 0.25))
    asked = formatdate(now + 20, usegmt=True) if as_date else "19.75"
    with chat_server([Reply(status=429, headers={"Retry-After": asked}), FINE]) as server:
        assert ask(server) == FINE
    assert waits == [19.75]


@pytest.mark.parametrize("asked", ["-5", "soon", "nan", "inf", "Wed, 99 Foo", ""])
def test_nonsense_about_waiting_is_passed_over(asked: str, waits: list[float]) -> None:
    with chat_server([Reply(status=429, headers={"Retry-After": asked}), FINE]) as server:
        assert ask(server) == FINE
    (wait,) = waits
    assert 0 < wait <= 0.01


def test_a_server_that_asks_for_hours_is_not_waited_for() -> None:
    busy = Reply(status=429, headers={"Retry-After": "7200"})
    with chat_server([busy]) as server, pytest.raises(FaultError, match="busy, and asks to come back in 7200 s"):
        ask(server)
    assert len(server.paths) == 1


def test_a_connection_that_breaks_is_tried_again() -> None:
    short = Reply(FINE, length=10_000)
    with chat_server([Reply(hang_up=True), short, Reply(b"nonsense", kind="x", hang_up=True), FINE]) as server:
        assert ask(server) == FINE
    assert len(server.paths) == 4


def test_nobody_there_is_said_after_some_tries() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        client = ChatClient(url, retries=1, backoff_s=0.01)
        with pytest.raises(FaultError, match=r"cannot be reached \(Connection refused\), tried 2 times; see whether"):
            list(client.complete_all([BODY]))


@pytest.mark.parametrize("reply", [Reply(FINE, pause_s=3), Reply(FINE, drip_s=0.05)])
def test_a_server_that_is_too_slow_is_given_up_at_once(reply: Reply) -> None:
    started = time.monotonic()
    with chat_server([reply]) as server:
        with pytest.raises(FaultError, match=r"has not answered within 0\.3 s; allow more with timeout_s"):
            ask(server, timeout_s=0.3)
        assert time.monotonic() - started < 2
        assert len(server.paths) == 1


def test_headers_that_never_end_are_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                try:
                    for byte in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(FaultError, match=r"has not answered within 0\.5 s"):
            list(ChatClient(url, timeout_s=0.5).complete_all([BODY]))
        thread.join(5)
        assert not thread.is_alive()


def test_one_that_fails_ends_the_others_at_once() -> None:
    def answering(body: dict[str, Any]) -> Reply:
        return Reply(status=400) if body["model"] == "bad" else Reply(FINE, pause_s=20)

    started = time.monotonic()
    with chat_server(answering) as server:
        client = client_of(server, timeout_s=30)
        with pytest.raises(ConfigError, match="error 400"):
            list(client.complete_all([{**BODY, "model": "bad"}, *[BODY] * 20]))
        deadline = time.monotonic() + 5
        while any(thread.name.startswith("chat") for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert time.monotonic() - started < 8
    assert len(server.paths) <= 5


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"{", length=1), "JSON that is broken, or no object; see what server it is"),
        (Reply(b"[" * 4000), "JSON that is broken"),
        (Reply([1]), "JSON that is broken, or no object"),
        (Reply(b"\xff\xfe"), "JSON that is broken"),
        (Reply(b"<html>hello</html>", kind="text/html; charset=utf-8"), "answers with text/html, not JSON; name the"),
        (Reply(b"data: {}", kind="text/event-stream"), "answers with text/event-stream, not JSON"),
        (Reply(b" " * 5000), "answers with more than 4096 bytes"),
        (Reply(b" " * 5000, length=10**12), "answers with more than 4096 bytes"),
        (Reply({"error": {"message": "At most 1 image"}}, status=400), "with error 400: At most 1 image$"),
        (Reply({"detail": "too \x1b[31mlong"}, status=422), r"with error 422: too \u241b\[31mlong$"),
        (Reply({"error": "model 'x' not found"}, status=404), "404: model 'x' not found; most addresses end in /v1"),
        (Reply(b"x" * 4000, status=400, kind="text/plain"), "error 400: x{300}$"),
        (
            Reply(status=307, headers={"Location": "http://192.0.2.1/"}),
            r"redirects to http://192\.0\.2\.1/, which is not",
        ),
        (Reply(status=302), "redirects to elsewhere"),
    ],
)
def test_what_is_no_answer_is_refused_at_once_in_one_line(reply: Reply, message: str) -> None:
    with chat_server([reply]) as server, pytest.raises(ConfigError, match=message) as caught:
        ask(server, max_bytes=4096)
    assert len(server.paths) == 1
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(server.url)


def test_an_address_without_its_end_is_explained() -> None:
    told = r"error 404: Not Found; most addresses end in /v1, as http://127"
    with chat_server([FINE]) as server, pytest.raises(ConfigError, match=told):
        list(ChatClient(server.url.removesuffix("/v1")).complete_all([BODY]))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8000", "is not the address of a server; give one such as http://127.0.0.1:8000/v1"),
        ("file:///etc/passwd", "is not the address of a server"),
        ("ftp://example.org", "is not the address of a server"),
        ("http://", "is not the address of a server"),
        ("http://a:99999/v1", "is not the address of a server"),
        ("http://[::1/v1", "is not the address of a server"),
        ("http://a b/v1", "is not the address of a server"),
        ("http://\u00e4.org/v1", "is not the address of a server"),
        ("http://a/v1\r\nX: 1", "is not the address of a server"),
        ("http://ada:secret@example.org/v1", "example.org holds a user or a password; leave them out, and give a key"),
        ("https://secret@example.org/v1", "example.org holds a user or a password"),
        ("http://example.org/v1?key=secret", r"example.org goes on after \? or #; give one such as"),
    ],
)
def test_what_is_no_address_is_refused_and_no_secret_is_repeated(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0}, "timeout_s is 0; give seconds, more than 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"timeout_s": "9"}, "timeout_s is '9'"),
        ({"retries": -1}, "retries is -1; give a whole number, 0 or more"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"concurrency": 0}, "concurrency is 0; give a whole number, 1 or more"),
        ({"concurrency": True}, "concurrency is True"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChatClient("http://127.0.0.1:1/v1", **options)


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.9.9.9", True),
        ("http://localhost/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://LOCALHOST", True),
        ("http://localhost.example.org", False),
        ("http://192.0.2.1", False),
        ("http://0.0.0.0", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_this_machine_is_told_from_others(url: str, is_here: bool) -> None:
    assert is_loopback(url) == is_here


def test_the_key_is_sent_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    monkeypatch.setenv("SEVILA_API_KEY", f" {KEY} ")
    errors: list[Exception] = []
    for status in (401, 403, 400, 404, 500, 302):
        told = {"error": {"message": f"wrong key {KEY}, really {KEY}"}}
        with chat_server([Reply(told, status=status, headers={"Location": f"http://x/?k={KEY}"})]) as server:
            client = client_of(server, retries=1)
            with pytest.raises((UserError, FaultError)) as caught:
                list(client.complete_all([BODY]))
            errors.append(caught.value)
            assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
            assert KEY not in f"{client!r} {vars(client)}"
    said = "\n".join(map(repr, errors)) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in said
    assert "does not accept the key (error 401); give one in the environment variable SEVILA_API_KEY" in said
    assert "really [key]" in said


def test_a_server_that_wants_a_key_is_told_from_one_that_does_not_accept_it() -> None:
    with (
        chat_server([Reply(status=401)]) as server,
        pytest.raises(ConfigError, match=r"wants a key \(error 401\); give one in the environment variable SEVILA"),
    ):
        ask(server)


def test_the_key_of_openai_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert api_key("https://api.openai.com/v1") == KEY
    for url in (
        "https://example.org/v1",
        "http://127.0.0.1/v1",
        "https://api.openai.com.example.org/v1",
        "http://a/v1",
    ):
        assert api_key(url) is None
    monkeypatch.setenv("SEVILA_API_KEY", "other")
    assert api_key("https://api.openai.com/v1") == "other"
    assert api_key("https://example.org/v1") == "other"


def test_a_key_does_not_leave_the_machine_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_API_KEY", KEY)
    with pytest.raises(
        ConfigError, match=r"SEVILA_API_KEY would go to 192\.0\.2\.1 unencrypted; use https, or unset"
    ) as caught:
        ChatClient("http://192.0.2.1/v1")
    assert KEY not in str(caught.value)
    ChatClient("http://localhost/v1")
    ChatClient("https://192.0.2.1/v1")


@pytest.mark.parametrize("key", ["sk-a\r\nX-Evil: 1", "sk a", "sk-\u00e4"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SEVILA_API_KEY", key)
    with pytest.raises(
        ConfigError, match="the key in SEVILA_API_KEY holds spaces or characters that no key has"
    ) as caught:
        ChatClient("http://127.0.0.1/v1")
    assert "sk-" not in str(caught.value)


class _Proxy(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.send_response(400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_proxy_of_the_environment_is_used_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    _Proxy.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as proxy, chat_server([FINE]) as server:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert ask(server) == FINE
        assert _Proxy.asked == []
        with pytest.raises(ConfigError, match="error 400"):
            list(ChatClient("http://api.test/v1", retries=0).complete_all([BODY]))
        with pytest.raises(FaultError, match="cannot be reached"):
            list(ChatClient("https://api.test/v1", retries=0).complete_all([BODY]))
        proxy.shutdown()
    assert _Proxy.asked == ["http://api.test/v1/chat/completions", "api.test:443"]
