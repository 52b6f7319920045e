"""Visitors who mean harm, by request."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from lavis.demo.serve import Served, serving
from lavis.demo.settings import Settings
from lavis.demo.videos import read_examples
from tests.unit.demo.conftest import BrightnessModel
from tests.videos import write_video

FILE = {"_type": "gradio.FileData"}
DEFAULTS = {"answer": (None, None, [], 32, 4), "find": (None, None, 32, 5)}
CLIP = {"clip": read_examples()[0].clip.name}


def upload(http: httpx.Client, content: bytes, name: str = "clip.mp4") -> httpx.Response:
    return http.post("gradio_api/upload", files={"files": (name, content)})


def call(http: httpx.Client, *data: Any, function: str = "answer", session: str | None = None) -> tuple[str, Any]:
    """Return how a call ended, and with what."""
    body = {"data": [*data, *DEFAULTS[function][len(data) :]], **({"session_hash": session} if session else {})}
    called = http.post(f"gradio_api/call/{function}", json=body)
    assert called.status_code == 200, called.text
    streamed = http.get(f"gradio_api/call/{function}/{called.json()['event_id']}").text.splitlines()
    return streamed[0].removeprefix("event: "), json.loads(streamed[1].removeprefix("data: "))


def refusal(http: httpx.Client, *data: Any, function: str = "answer", session: str | None = None) -> str:
    ended, content = call(http, *data, function=function, session=session)
    assert ended == "error"
    return content["error"]


@pytest.mark.parametrize(
    "path",
    [
        "file=http://127.0.0.1:1/a",
        "file=HTTPS://example.org/a",
        "proxy=https://example.org/a",
        "file=//example.org/a",
    ],
)
def test_nothing_is_fetched_for_a_visitor(http: httpx.Client, path: str) -> None:
    assert http.get(f"gradio_api/{path}").status_code == 404


def test_no_address_is_taken_for_a_file(http: httpx.Client) -> None:
    video = {"path": "http://127.0.0.1:1/clip.mp4", "meta": FILE}
    answered = http.post("gradio_api/call/answer", json={"data": [video, "Why?"]})
    assert (answered.status_code, answered.text) == (400, "files are uploaded, not fetched from addresses")


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", str(Path(__file__).resolve())])
def test_no_other_file_is_served(http: httpx.Client, path: str) -> None:
    assert http.get(f"gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize(
    "video", [{"path": "/etc/passwd"}, {"path": str(read_examples()[0].clip)}, {"path": "../clip.mp4"}]
)
def test_no_path_of_a_client_is_opened(http: httpx.Client, video: dict[str, str]) -> None:
    assert refusal(http, video, "Why?") == "This video is no longer here; upload it again."


def test_a_path_dressed_as_an_upload_is_not_opened_either(http: httpx.Client) -> None:
    assert call(http, {"path": "/etc/passwd", "meta": FILE}, "Why?") == ("error", {"error": None})


@pytest.mark.parametrize("clip", ["../questions.json", "questions.json", "/etc/passwd"])
def test_only_shipped_clips_are_opened_by_name(http: httpx.Client, clip: str) -> None:
    assert refusal(http, {"clip": clip}, "Why?").startswith(f"There is no clip {clip!r}; ")


def test_a_text_that_is_called_a_video_is_refused_without_its_path(http: httpx.Client) -> None:
    (path,) = upload(http, b"This is text.\n" * 50).json()
    message = refusal(http, {"path": path, "meta": FILE}, "Why?")
    assert message.startswith("clip.mp4: not a video file")
    assert str(Path(path).parent) not in message


def test_a_large_upload_is_refused(http: httpx.Client) -> None:
    assert upload(http, bytes(1_050_000)).status_code == 413
    assert upload(http, bytes(2_000_000)).status_code == 413


def test_a_long_video_is_refused(http: httpx.Client, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", num_frames=70, fps=1)
    (path,) = upload(http, long.read_bytes()).json()
    assert refusal(http, {"path": path, "meta": FILE}, "Why?") == "This video lasts 1:10; at most 1:00 go."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["x" * 501], "This text has 501 characters; at most 500 go."),
        ([None], "None is not text"),
        (["Why?", "ab"], "options are not a list of texts"),
        (["Why?", ["a", 1]], "1 is not text"),
        (["Why?", [str(number) for number in range(9)]], "9 options given; at most 8 go"),
        (["Why?", [], 100_000], "100000 does not go here; give 1 to 128."),
        (["Why?", [], "32"], "'32' is not a whole number"),
        (["Why?", [], True], "True is not a whole number"),
        (["Why?", [], 32, 17], "17 does not go here; give 1 to 16."),
    ],
)
def test_inputs_have_limits(http: httpx.Client, data: list[Any], message: str) -> None:
    assert refusal(http, CLIP, *data) == message


def test_a_large_request_is_refused(http: httpx.Client) -> None:
    answered = http.post("gradio_api/call/answer", json={"data": [CLIP, "x" * 300_000]})
    assert answered.status_code == 413


def test_only_so_many_visitors_are_remembered(http: httpx.Client, served: Served) -> None:
    sessions = served.block.state_holder.session_data
    for number in range(12):
        assert refusal(http, CLIP, "", session=f"visitor {number}") == refusal(http, CLIP, "")
    assert "visitor 11" in sessions
    assert len(sessions) <= 9


def test_pages_may_load_nothing_from_elsewhere(http: httpx.Client) -> None:
    headers = http.get("").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


class GatedModel(BrightnessModel):
    """Waits in the middle of a video until it is let go on; or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.gate = threading.Event(), threading.Event()
        self.defect: Exception | None = None

    def look(self, clip: Any) -> Any:
        self.started.set()
        assert self.gate.wait(60)
        if self.defect:
            raise self.defect
        return super().look(clip)


@pytest.fixture(scope="module")
def gated_model() -> GatedModel:
    return GatedModel()


@pytest.fixture(scope="module")
def gated(gated_model: GatedModel) -> Iterator[Served]:
    settings = Settings(max_jobs_per_address=2, max_stored_mb=1, max_upload_mb=2)
    with serving(gated_model, model_name="gated", port=None, auth=("ada", "secret"), settings=settings) as running:
        yield running


@pytest.fixture
def ada(gated: Served, gated_model: GatedModel) -> Iterator[httpx.Client]:
    gated_model.started.clear()
    gated_model.gate.clear()
    gated_model.defect = None
    with httpx.Client(base_url=gated.url, timeout=600) as client:
        assert client.post("login", data={"username": "ada", "password": "secret"}).status_code == 200
        yield client
    gated_model.gate.set()


def test_without_the_password_nothing_is_served(gated: Served) -> None:
    with httpx.Client(base_url=gated.url, timeout=300) as stranger:
        assert stranger.post("login", data={"username": "ada", "password": "guess"}).status_code == 400
        assert stranger.post("gradio_api/call/answer", json={"data": [CLIP, "Why?"]}).status_code == 401
        assert upload(stranger, b"x").status_code == 401


def test_an_address_has_a_few_jobs_at_once(ada: httpx.Client, gated_model: GatedModel) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(call, ada, CLIP, "Why?")
        assert gated_model.started.wait(60)
        second = pool.submit(call, ada, CLIP, "Why?")
        third = pool.submit(call, ada, CLIP, "Why?")
        # Whichever of both came last is refused at once, while the first still runs.
        refused = [done for done in (second, third) if _ends(done)]
        gated_model.gate.set()
        ends = sorted(done.result(60)[0] for done in (first, second, third))
    assert len(refused) == 1
    assert refused[0].result()[1]["error"].startswith("Too many questions at once from your network")
    assert ends == ["complete", "complete", "error"]


def _ends(done: Any) -> bool:
    try:
        done.result(5)
    except TimeoutError:
        return False
    return True


def test_a_defect_is_logged_under_a_number_and_shows_nothing_of_the_inside(
    ada: httpx.Client, gated_model: GatedModel, caplog: pytest.LogCaptureFixture
) -> None:
    gated_model.gate.set()
    gated_model.defect = RuntimeError("the secret inside")
    ended, content = call(ada, CLIP, "Why?")
    assert ended == "error"
    start, _, number = content["error"].rstrip(".").rpartition(" ")
    assert start == "Something went wrong here. It was logged as error"
    (record,) = [record for record in caplog.records if record.getMessage() == f"error {number}"]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the secret inside"


def test_uploads_end_where_the_disk_s_share_ends(ada: httpx.Client) -> None:
    assert upload(ada, bytes(900_000), "a.mp4").status_code == 200
    assert upload(ada, b"1" * 900_000, "b.mp4").status_code == 200
    assert upload(ada, b"2" * 100, "c.mp4").status_code == 507
