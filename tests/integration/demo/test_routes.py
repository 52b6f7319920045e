"""Of all that the installed Gradio answers, only what the page needs is open."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.responses import PlainTextResponse

from lavis.demo.files import VisitorFiles
from lavis.demo.guard import Guard
from lavis.demo.serve import Served

# Every route that may be open; whoever adds one has to say here that strangers may call it.
OPEN = {
    ("GET", "/"),
    ("GET", "/assets/{path:path}"),
    ("GET", "/config"),
    ("GET", "/favicon.ico"),
    ("GET", "/gradio_api/call/{api_name}/{event_id}"),
    ("GET", "/gradio_api/file={path_or_url:path}"),
    ("GET", "/gradio_api/heartbeat/{session_hash}"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/queue/data"),
    ("GET", "/gradio_api/startup-events"),
    ("GET", "/robots.txt"),
    ("GET", "/static/{path:path}"),
    ("GET", "/theme.css"),
    ("HEAD", "/"),
    ("HEAD", "/gradio_api/file={path_or_url:path}"),
    ("POST", "/gradio_api/call/{api_name}"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/run/{api_name}"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/login"),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of all that an app answers, in routers and mounted apps too."""
    for context in iter_route_contexts(app.routes):
        mounted = getattr(context.original_route, "app", None)
        if mounted is not None and hasattr(mounted, "routes"):
            yield from ((method, f"{context.path}{path}") for method, path in routes(mounted))
        else:
            yield from ((method, context.path) for method in context.methods or METHODS)


@pytest.fixture(scope="module")
def every_route(served: Served) -> set[tuple[str, str]]:
    return set(routes(served.block.app))


def like(path: str, value: str) -> str:
    """A path that a route answers."""
    return re.sub(r"\{[^}]*\}", value, path)


async def ran(scope: Any, receive: Any, send: Any) -> None:
    """What stands behind a guard."""
    await PlainTextResponse("ran")(scope, receive, send)


def asked(guard: Guard, method: str, path: str, *, prefix: str = "") -> int:
    """How a guard answers a request."""
    seen: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        seen.extend([message["status"]] if "status" in message else [])

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    asyncio.run(guard({**scope, "root_path": prefix}, receive, send))  # type: ignore[arg-type]
    return seen[0]


def test_the_installed_gradio_is_looked_through(every_route: set[tuple[str, str]]) -> None:
    assert every_route >= OPEN
    assert len(every_route) > 80
    for path in ("process_recording", "dev/reload", "vibe-edit", "deep_link", "component_server", "api/{api_name}"):
        assert any(known.endswith(path) for _, known in every_route), path


@pytest.mark.parametrize("value", ["predict", "answer", "a/b"])
def test_no_other_route_runs(every_route: set[tuple[str, str]], files: VisitorFiles, value: str) -> None:
    # A path that an open route answers too is that one's: /call/{name} is no other than /call/answer.
    ours = {(method, like(path, value)) for method, path in OPEN}
    every_path = {like(path, value) for _, path in every_route}
    guard = Guard(ran, files=files, upload=ran)
    answers = {(method, path): asked(guard, method, path) for path in every_path for method in METHODS}
    assert {route: status for route, status in answers.items() if status != 404 and route not in ours} == {}


def test_open_routes_are_reached(files: VisitorFiles) -> None:
    guard = Guard(ran, files=files, upload=ran)
    stored = files.write("answer.json", b"{}").as_posix()
    values = {"/gradio_api/file={path_or_url:path}": stored, "/gradio_api/run/{api_name}": "predict"}
    answers = {route: asked(guard, route[0], like(route[1], values.get(route[1], "answer"))) for route in OPEN}
    assert {route: status for route, status in answers.items() if status != 200} == {}


def test_closed_routes_are_not_found_on_the_real_page(http: httpx.Client, every_route: set[tuple[str, str]]) -> None:
    for method, path in sorted(every_route - OPEN):
        answered = http.request(method, like(path, "x").lstrip("/"))
        assert answered.status_code == 404, (method, path)
        assert answered.text in ("not found", ""), (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/process_recording",
        "gradio_api/process_recording/",
        "gradio_api//process_recording",
        "gradio_api/%70rocess_recording",
        "GRADIO_API/process_recording",
        "gradio_api/upload/../process_recording",
    ],
)
def test_no_spelling_reaches_ffmpeg(http: httpx.Client, path: str) -> None:
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    answered = http.post(path, files={"video": ("a.m3u8", playlist)}, data={"remove_segment_start": "0"})
    assert answered.status_code == 404


def test_a_prefix_changes_nothing(files: VisitorFiles) -> None:
    guard = Guard(ran, files=files, upload=ran)
    assert asked(guard, "GET", "/sevila/config", prefix="/sevila") == 200
    assert asked(guard, "GET", "/config", prefix="/sevila") == 200
    assert asked(guard, "GET", "/sevila/monitoring", prefix="/sevila") == 404
    assert asked(guard, "GET", "/sevila/config") == 404


def test_no_websocket_is_opened(files: VisitorFiles) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(None, files=files, upload=None)  # type: ignore[arg-type]
    asyncio.run(guard({"type": "websocket", "path": "/gradio_api/queue/join"}, None, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]
