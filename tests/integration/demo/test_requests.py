"""What is sent is bounded and looked at, whatever it is called; no address that a visitor names is fetched."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from gradio import processing_utils

from lavis.demo.serve import Served

FILE = {"_type": "gradio.FileData"}
ROUTES = ("call/answer", "call/find", "queue/join", "run/predict", "cancel", "reset")
TYPES = (
    "application/json",
    "Application/JSON",
    "APPLICATION/json; charset=utf-8",
    "application/json ;a=b",
    "application/x+json",
    "application/vnd.api+json",
    "application/jsonx",
    "text/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "",
    None,
)


class Listener:
    """A web server that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"secret")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/clip.mp4"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    found = Listener()
    threading.Thread(target=found.server.serve_forever, daemon=True).start()
    # Gradio asks no machine of the own network by itself; here it would.
    processing_utils.PUBLIC_HOSTNAME_WHITELIST.append("127.0.0.1")
    yield found
    processing_utils.PUBLIC_HOSTNAME_WHITELIST.remove("127.0.0.1")
    found.server.shutdown()
    found.server.server_close()


def headers(content_type: str | None) -> dict[str, str]:
    return {} if content_type is None else {"content-type": content_type}


def bodies(url: str, stored: str) -> dict[str, Any]:
    """Files that name an address, as they would be sent to any of the routes."""
    plain = {"path": url, "meta": FILE}
    return {
        "path": plain,
        "url": {"path": stored, "url": url, "meta": FILE},
        "both": {"path": url, "url": url, "meta": FILE},
        "no meta": {"path": url},
        "stream": {**plain, "is_stream": True},
        "blanks": {**plain, "path": f" \t{url}"},
        "capitals": {**plain, "path": url.replace("http", "HtTpS")},
        "no scheme": {**plain, "path": url.removeprefix("http:")},
        "another scheme": {**plain, "path": url.replace("http", "gopher")},
        "deep": [[{"a": {"b": [plain]}}]],
        "in a file": {"path": stored, "meta": FILE, "more": plain},
    }


@pytest.fixture
def stored(http: httpx.Client) -> str:
    return http.post("gradio_api/upload", files={"files": ("clip.mp4", b"text")}).json()[0]


def test_gradio_would_fetch_an_address(listener: Listener, tmp_path: Any) -> None:
    processing_utils.ssrf_protected_download(listener.url, str(tmp_path))
    assert listener.asked == ["/clip.mp4"]
    listener.asked.clear()


@pytest.mark.parametrize("route", ROUTES)
def test_no_address_is_fetched(http: httpx.Client, served: Served, listener: Listener, stored: str, route: str) -> None:
    numbers = sorted({len(served.block.fns) - 1, *served.block.fns})
    for name, file in bodies(listener.url, stored).items():
        number = numbers[len(name) % len(numbers)]
        body = {"data": [file, "Why?", [], 32, 4], "session_hash": "s", "fn_index": number, "event_id": "e"}
        for content_type in TYPES:
            answered = http.post(f"gradio_api/{route}", content=json.dumps(body), headers=headers(content_type))
            assert answered.status_code == 400, (name, content_type, answered.text)
            assert answered.text == "files are uploaded, not fetched from addresses"
    assert listener.asked == []


@pytest.mark.parametrize("field", ["event_data", "session_hash", "trigger_id", "other"])
def test_an_address_is_found_wherever_it_stands(
    http: httpx.Client, listener: Listener, stored: str, field: str
) -> None:
    body = {"data": [{"clip": "test_0001.mp4"}], field: {"path": listener.url, "meta": FILE}}
    assert http.post("gradio_api/call/answer", json=body).status_code == 400
    assert listener.asked == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_no_encoding_hides_an_address(http: httpx.Client, listener: Listener, encoding: str) -> None:
    body = json.dumps({"data": [{"path": listener.url, "meta": FILE}, "Why?"]})
    escaped = body.replace("http", "\\u0068ttp").replace('"path"', '"pat\\u0068"')
    for text in (body, escaped, escaped.replace('"path"', '"path": "a", "path"')):
        sent = text.encode(encoding)
        answered = http.post("gradio_api/call/answer", content=sent, headers=headers("application/json"))
        assert answered.status_code == 400
    assert listener.asked == []


def test_the_last_of_doubled_keys_counts_for_gradio_too(http: httpx.Client, listener: Listener) -> None:
    hidden = f'{{"data": [{{"path": "{listener.url}", "path": "a", "meta": {json.dumps(FILE)}}}, "Why?", [], 32, 4]}}'
    called = http.post("gradio_api/call/answer", content=hidden, headers=headers("application/json"))
    assert called.status_code == 200
    assert "event: error" in http.get(f"gradio_api/call/answer/{called.json()['event_id']}").text
    assert listener.asked == []


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("route", [*ROUTES, "../login"])
def test_a_large_request_is_refused_whatever_it_is_called(
    http: httpx.Client, route: str, content_type: str | None
) -> None:
    large = json.dumps({"data": ["x" * 300_000]}).encode()
    chunks = iter([large[:1000], large[1000:]])
    for content in (large, chunks):  # with a length, and in chunks without one
        answered = http.post(f"gradio_api/{route}", content=content, headers=headers(content_type))
        assert (answered.status_code, answered.text) == (413, "the request is too large")


@pytest.mark.parametrize("content_type", TYPES[4:])
def test_only_json_is_taken(http: httpx.Client, content_type: str | None) -> None:
    body = json.dumps({"data": [{"clip": "test_0001.mp4"}, "Why?", [], 32, 4]})
    answered = http.post("gradio_api/call/answer", content=body, headers=headers(content_type))
    assert (answered.status_code, answered.text) == (415, "send this as application/json")


@pytest.mark.parametrize("content_type", TYPES[:4])
def test_json_is_taken_however_it_is_spelt(http: httpx.Client, content_type: str) -> None:
    body = json.dumps({"data": [{"clip": "none"}, "Why?", [], 32, 4]})
    answered = http.post("gradio_api/call/answer", content=body, headers=headers(content_type))
    assert answered.status_code == 200, answered.text


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 200_000, b"\xff", b"1" * 5000])
def test_what_is_no_json_is_refused(http: httpx.Client, body: bytes) -> None:
    answered = http.post("gradio_api/call/answer", content=body, headers=headers("application/json"))
    assert (answered.status_code, answered.text) == (400, "not valid JSON")


@pytest.mark.parametrize("path", ["", "config", "gradio_api/info", "gradio_api/queue/data?session_hash=a"])
def test_nothing_is_sent_along_with_a_question_for_a_page(http: httpx.Client, path: str) -> None:
    assert http.request("GET", path, content=b"x" * 10).status_code == 413
    assert http.request("GET", path, content=iter([b"x"])).status_code == 413
