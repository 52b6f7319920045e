"""Visitors who send slowly, endlessly, half or too much at once, over loopback and from addresses of their own."""

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from lavis.demo import guard
from lavis.demo.serve import Served
from lavis.demo.videos import read_examples

_WAIT_S = 60
_PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="clip.mp4"\r\n\r\n'
Dial = Callable[..., socket.socket]


@pytest.fixture
def dial(served: Served) -> Iterator[Dial]:
    """Opens connections, each from an address of loopback."""
    where = urlsplit(served.url)
    with ExitStack() as stack:

        def connect(sent: bytes = b"", *, source: str = "127.0.0.1") -> socket.socket:
            made = socket.create_connection((where.hostname, where.port), _WAIT_S, source_address=(source, 0))
            stack.enter_context(made)
            made.sendall(sent)
            return made

        yield connect


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(guard, "PATIENCE_S", 0.5)


def upload_head(length: int) -> bytes:
    return (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: page\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode() + _PART


def folder_of(served: Served) -> Path:
    return Path(served.block.app.uploaded_file_dir).resolve()


def visitors_files(served: Served) -> list[Path]:
    found = [path for path in folder_of(served).rglob("*") if path.is_file()]
    return sorted(path for path in found if "kept" not in path.parts)


def until(held: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + _WAIT_S
    while not held():
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _sends(connection: socket.socket, piece: bytes) -> bool:
    try:
        connection.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end closes a connection, after whatever it has to say."""
    try:
        while connection.recv(10_000):
            pass
    except ConnectionResetError:
        pass
    return True  # else the socket's own time limit has raised


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: page\r\nX-Long: ",
        b"GET /robots.txt HTTP/1.1\r\nHost: page\r\n\r\nGET / HT",
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: page\r\nContent-Length: 999999999\r\n\r\nx",
        b"POST /gradio_api/process_recording HTTP/1.1\r\nHost: page\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_a_connection_that_asks_nothing_is_closed(dial: Dial, sent: bytes) -> None:
    assert is_closed(dial(sent))


@pytest.mark.usefixtures("impatient")
def test_headers_that_trickle_in_do_not_keep_a_connection(dial: Dial) -> None:
    connection = dial(b"GET / HTTP/1.1\r\n")
    until(lambda: not _sends(connection, b"X-More: a\r\n"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/gradio_api/call/answer", "/gradio_api/run/predict", "/login"])
def test_a_slow_body_is_not_waited_for(dial: Dial, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: page\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    assert dial(head.encode() + b"{").recv(10_000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("impatient")
def test_an_upload_that_never_ends_is_ended_and_leaves_nothing(dial: Dial, served: Served) -> None:
    before, files = visitors_files(served), open_files()
    connection = dial(upload_head(900_000) + b"x" * 1000, source="127.0.0.3")
    until(lambda: not _sends(connection, b"x"))
    assert visitors_files(served) == before
    connection.close()
    until(lambda: open_files() <= files + 1)


@pytest.mark.parametrize("path", ["/gradio_api/call/answer", "/gradio_api/upload", "/login"])
def test_who_leaves_in_the_middle_is_no_defect(dial: Dial, path: str, caplog: pytest.LogCaptureFixture) -> None:
    files = open_files()
    head = f"POST {path} HTTP/1.1\r\nHost: page\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 99"
    connection = dial(head.encode() + b"\r\n\r\n{")
    time.sleep(0.2)
    connection.close()
    until(lambda: open_files() <= files)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_upload_that_is_broken_off_leaves_nothing(dial: Dial, http: httpx.Client, served: Served) -> None:
    before, files = visitors_files(served), open_files()
    for _ in range(12):  # more than may be under way
        connection = dial(upload_head(900_000) + b"x" * 500_000)
        time.sleep(0.05)
        connection.close()
    until(lambda: open_files() <= files + 1)
    assert visitors_files(served) == before
    until(lambda: http.post("gradio_api/upload", files={"files": ("a.mp4", b"a")}).status_code == 200)


def test_an_address_has_a_few_uploads_at_once(dial: Dial, http: httpx.Client) -> None:
    held = [dial(upload_head(900_000) + b"x" * 1000, source="127.0.0.4") for _ in range(4)]
    time.sleep(0.5)
    fifth = dial(upload_head(900_000), source="127.0.0.4")
    assert fifth.recv(10_000).startswith(b"HTTP/1.1 429 ")
    # Others are not held up.
    assert http.post("gradio_api/upload", files={"files": ("a.mp4", b"a")}).status_code == 200
    for connection in held:
        connection.close()


def test_an_address_has_so_many_connections_and_others_are_not_held_up(dial: Dial, http: httpx.Client) -> None:
    held = [dial(source="127.0.0.5") for _ in range(32 * 4)]
    assert is_closed(dial(source="127.0.0.5"))
    assert http.get("robots.txt").status_code == 200
    held.pop().close()
    until(lambda: _answers(dial(b"GET /robots.txt HTTP/1.1\r\nHost: page\r\n\r\n", source="127.0.0.5")))


def test_the_page_has_so_many_connections(
    dial: Dial, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, served: Served
) -> None:
    monkeypatch.setattr(guard, "MAX_CONNECTIONS", len(served.block.server.server_state.connections) + 4)
    held = [dial(source=f"127.0.1.{number}") for number in range(1, 5)]
    assert is_closed(dial(source="127.0.1.9"))
    for connection in held:
        connection.close()
    until(lambda: _answers(dial(b"GET /robots.txt HTTP/1.1\r\nHost: page\r\n\r\n", source="127.0.1.9")))


def _answers(connection: socket.socket) -> bool:
    try:
        return connection.recv(100).startswith(b"HTTP/1.1 200 ")
    except ConnectionResetError:
        return False


def test_nobody_can_tell_what_others_have_uploaded(http: httpx.Client, served: Served) -> None:
    content = b"the same film"
    first, second = (http.post("gradio_api/upload", files={"files": ("a.mp4", content)}).json()[0] for _ in range(2))
    assert first != second
    assert [http.get(f"gradio_api/file={path}").content for path in (first, second)] == [content] * 2
    folder = Path(first).parents[1]
    for guess in (hashlib.sha256(content).hexdigest(), hashlib.sha1(content).hexdigest()):
        assert http.get(f"gradio_api/file={folder / guess / 'a.mp4'}").status_code == 404
    for other in (folder, folder / "made", folder.parent / "lock", Path(first).parent):
        assert http.get(f"gradio_api/file={other}").status_code == 404
    assert len(Path(first).parent.name) == 32


def test_what_a_browser_has_uploaded_is_nobody_else_s(http: httpx.Client, served: Served) -> None:
    """The other one knows the path, whatever way he learned it."""
    clip = read_examples()[0].clip
    with httpx.Client(base_url=served.url) as page, httpx.Client(base_url=served.url) as other:
        for visitor in (page, other):
            assert "HttpOnly; SameSite=Lax" in visitor.get("").headers["set-cookie"]
        assert "set-cookie" not in page.get("").headers
        (path,) = page.post("gradio_api/upload", files={"files": (clip.name, clip.read_bytes())}).json()
        video = {"path": path, "meta": {"_type": "gradio.FileData"}}
        asked = {"data": [video, "Why?", [], 8, 2], "session_hash": "s", "fn_index": 0}
        assert page.get(f"gradio_api/file={path}").content == clip.read_bytes()
        called = page.post("gradio_api/call/answer", json=asked)
        assert "event: complete" in page.get(f"gradio_api/call/answer/{called.json()['event_id']}").text
        for visitor in (other, http):
            for spelling in (path, f"{Path(path).parent}/../{Path(path).parent.name}/{clip.name}"):
                assert visitor.get(f"gradio_api/file={spelling}").status_code == 404
                named = {**asked, "data": [{"path": spelling}, "Why?", [], 8, 2]}
                for route in ("call/answer", "queue/join", "run/predict"):
                    assert visitor.post(f"gradio_api/{route}", json=named).status_code == 404


def test_asking_about_an_upload_makes_no_copy_of_it(http: httpx.Client, served: Served) -> None:
    clip = read_examples()[0].clip
    before = visitors_files(served)
    (path,) = http.post("gradio_api/upload", files={"files": (clip.name, clip.read_bytes())}).json()
    video = {"path": path, "meta": {"_type": "gradio.FileData"}}
    called = http.post("gradio_api/call/answer", json={"data": [video, "Why?", [], 8, 2]}).json()
    assert "event: complete" in http.get(f"gradio_api/call/answer/{called['event_id']}").text
    assert set(visitors_files(served)) - set(before) == {Path(path)}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../up.mp4", "up.mp4"),
        ("Катя 1.mp4", "Катя 1.mp4"),
        ("..", "file"),
        (".hidden.mp4", "hidden.mp4"),
        ("a" * 400 + ".mp4", "a" * 196 + ".mp4"),
    ],
)
def test_an_upload_s_name_leads_nowhere(http: httpx.Client, served: Served, name: str, kept: str) -> None:
    (path,) = http.post("gradio_api/upload", files={"files": (name, b"x")}).json()
    assert Path(path).name == kept
    assert Path(path).parents[1] == folder_of(served)


def test_only_files_are_taken_and_nothing_else_is_kept(http: httpx.Client, served: Served) -> None:
    before = visitors_files(served)
    refused = [
        http.post("gradio_api/upload", files={"other": ("a.mp4", b"x")}),
        http.post("gradio_api/upload", files={"files": ("a.mp4", b"x")}, data={"field": "x" * 10_000}),
        http.post("gradio_api/upload", files=[("files", ("a.mp4", b"x"))] * 9),
        http.post("gradio_api/upload", json={"files": "a.mp4"}),
        http.post("gradio_api/upload", content=b"x", headers={"content-type": "multipart/form-data"}),
        http.post(
            "gradio_api/upload", content=_PART + b"x", headers={"content-type": "multipart/form-data; boundary=y"}
        ),
    ]
    assert [answered.status_code for answered in refused] == [400] * 6
    assert http.post("gradio_api/upload", content=iter([_PART])).status_code == 411
    assert visitors_files(served) == before


@pytest.mark.slow
def test_slow_senders_leave_the_page_to_others(dial: Dial, http: httpx.Client, measured: Callable[[str], None]) -> None:
    """With the page's own limits: as many connections as two addresses may have, half of them in an upload."""
    began = time.monotonic()
    headers, bodies = b"GET / HTTP/1.1\r\nX-Long: ", upload_head(900_000)
    slow = [dial(headers, source=f"127.0.2.{number % 2 + 1}") for number in range(240)]
    slow += [dial(bodies, source=f"127.0.2.{number % 2 + 1}") for number in range(8)]
    clip = {"clip": read_examples()[0].clip.name}
    answers = []
    while time.monotonic() - began < 60:
        asked = time.monotonic()
        called = http.post("gradio_api/call/answer", json={"data": [clip, "Why?", [], 8, 2]}).json()
        assert "event: complete" in http.get(f"gradio_api/call/answer/{called['event_id']}").text
        answers.append(time.monotonic() - asked)
        time.sleep(1)
    for connection in slow:
        connection.settimeout(1)
        assert is_closed(connection)
    measured(f"{len(answers)} answers beside 248 slow senders, the slowest after {max(answers):.1f} s")
