"""Videos as people have them, each opened and read."""

import gc
import io
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from lavis.common.errors import ConfigError, VideoError
from lavis.video import download
from lavis.video.given import TAKEN, given_video
from tests.videos import numbered_picture, shown_numbers, write_video
from tests.web import redirect, send, serving


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames at 25 frames per second."""
    return write_video(tmp_path_factory.mktemp("given") / "clip.mp4", num_frames=12)


@pytest.fixture(scope="module")
def pictures() -> npt.NDArray[np.uint8]:
    """Uint8 [12, 64, 96, 3]."""
    return np.stack([numbered_picture(number, width=96, height=64) for number in range(12)])


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files of the test lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def server(clip: Path) -> Iterator[str]:
    """Serves the clip, and what is wrong with it in several ways."""
    content = clip.read_bytes()

    def answer(request: BaseHTTPRequestHandler) -> None:
        name = request.path.partition("?")[0]
        if name == "/moved":
            redirect(request, "/clip.mp4")
        elif name == "/outside":
            redirect(request, "ftp://127.0.0.1/clip.mp4")
        elif name == "/inside":
            redirect(request, f"file://{clip}")
        elif name == "/page.mp4":
            send(request, b"<html>", kind="text/html; charset=utf-8")
        elif name == "/cut.mp4":
            send(request, content[:500], length=len(content))
        elif name == "/noise.mp4":
            send(request, b"no video at all")
        elif name == "/clip.mp4":
            send(request, content)
        else:
            request.send_error(404)

    with serving(answer) as url:
        yield url


def numbers(video: Any, **options: Any) -> list[int]:
    with given_video(video, **options).open() as reading:
        return shown_numbers(reading.read(np.arange(reading.info.num_frames)).frames)


def test_paths_and_file_addresses_are_files(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(clip.parent))
    monkeypatch.setenv("USERPROFILE", str(clip.parent))
    for video in (clip, str(clip), "~/clip.mp4", Path("~/clip.mp4"), clip.as_uri(), f"FILE://localhost{clip}"):
        given = given_video(video)
        assert (given.path, given.name) == (clip, str(clip))
        assert numbers(video) == list(range(12))


def test_bytes_and_open_files_are_kept_as_long_as_the_video(clip: Path, temporary: Path) -> None:
    content = clip.read_bytes()
    with clip.open("rb") as file:
        for video in (content, bytearray(content), memoryview(content), io.BytesIO(content), file):
            given = given_video(video)
            with given.open() as reading:
                assert reading.info.path == given.name
                assert shown_numbers(reading.read(np.arange(12)).frames) == list(range(12))
            assert len(list(temporary.iterdir())) == 1
            del given, reading
            gc.collect()
            assert list(temporary.iterdir()) == []


def test_an_address_is_downloaded_with_progress_and_shown_without_its_query(server: str, temporary: Path) -> None:
    told: list[tuple[int, int | None]] = []
    given = given_video(f"{server}/clip.mp4?key=secret", progress=lambda *done: told.append(done))
    assert given.name == f"{server}/clip.mp4"
    with given.open() as reading:
        assert reading.info.path == f"{server}/clip.mp4"
        assert reading.info.num_frames == 12
    assert given.path is not None
    assert given.path.is_relative_to(temporary)
    assert told[-1] == (given.path.stat().st_size,) * 2
    assert numbers(f"{server}/moved") == list(range(12))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/missing.mp4", "the server answers 404 Not Found"),
        ("/page.mp4", "is a web page, not a video file; give the address of the file itself"),
        ("/outside", "leads to ftp://127.0.0.1/clip.mp4, which is no http or https address"),
        ("/cut.mp4", "the connection ended after 500 of"),
    ],
)
def test_what_cannot_be_downloaded_is_said_and_leaves_nothing(
    server: str, temporary: Path, place: str, reason: str
) -> None:
    with pytest.raises(VideoError) as caught:
        given_video(f"{server}{place}")
    assert str(caught.value).startswith(f"{server}{place}: {reason}")
    assert list(temporary.iterdir()) == []


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(server: str, temporary: Path) -> None:
    with pytest.raises(VideoError, match=r"the server answers 302|leads to file://"):
        given_video(f"{server}/inside")
    assert list(temporary.iterdir()) == []


def test_what_is_too_large_is_not_kept(
    server: str, clip: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    for video in (f"{server}/clip.mp4", clip.read_bytes(), io.BytesIO(clip.read_bytes())):
        with pytest.raises(VideoError, match=r"is larger than .* GiB; save it to a file and give its path"):
            given_video(video)
    assert list(temporary.iterdir()) == []


def test_a_server_that_says_nothing_is_given_up(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.1)
    with (
        serving(lambda request: request.rfile.read()) as url,
        pytest.raises(VideoError, match=r"cannot be downloaded .*timed out"),
    ):
        given_video(f"{url}/clip.mp4")
    assert list(temporary.iterdir()) == []


def test_a_server_that_sends_drop_by_drop_is_given_up(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MAX_S", -1.0)
    with (
        serving(lambda request: send(request, b"drop")) as url,
        pytest.raises(VideoError, match="was not downloaded after"),
    ):
        given_video(f"{url}/clip.mp4")
    assert list(temporary.iterdir()) == []


def test_an_error_names_what_was_given_and_not_the_temporary_file(server: str, temporary: Path) -> None:
    for video, name in ((b"no video", "the bytes"), (f"{server}/noise.mp4", f"{server}/noise.mp4")):
        with pytest.raises(VideoError) as caught, given_video(video).open():
            pass
        assert str(caught.value).startswith(f"{name}: ")
        assert str(temporary) not in str(caught.value)


def test_pictures_in_memory_are_frames(pictures: npt.NDArray[np.uint8]) -> None:
    first = torch.from_numpy(pictures).movedim(-1, 1)
    for video in (
        [Image.fromarray(picture) for picture in pictures],
        list(pictures),
        pictures,
        np.moveaxis(pictures, -1, 1),
        pictures.astype(np.int64),
        pictures / 255,
        first,
        first.to(torch.bfloat16) / 256,
        list(first.float() / 255),
    ):
        assert numbers(video, fps=10) == list(range(12))
    with given_video(pictures, fps=10).open() as reading:
        assert (reading.info.path, reading.info.num_frames) == ("12 pictures in memory", 12)
        assert (reading.info.fps, reading.info.duration_s) == (10.0, 1.2)
        assert (reading.info.width, reading.info.height) == (96, 64)
        np.testing.assert_array_equal(reading.read([3]).frames[0], pictures[3])
        np.testing.assert_allclose(reading.times_s([0, 5]), [0, 0.5])


def test_pictures_may_have_times_of_their_own(pictures: npt.NDArray[np.uint8]) -> None:
    with given_video(pictures[:3], times_s=[1, 1.5, 4]).open() as reading:
        assert reading.times_s([0, 1, 2]).tolist() == [1, 1.5, 4]
        assert (reading.info.duration_s, reading.info.fps) == (5.5, 3 / 4.5)


def test_pictures_of_another_size_are_scaled_and_it_is_said(pictures: npt.NDArray[np.uint8]) -> None:
    wide = Image.fromarray(pictures[1]).resize((192, 64))
    with given_video([Image.fromarray(pictures[0]), wide], fps=1).open() as reading:
        assert shown_numbers(reading.read([0, 1]).frames) == [0, 1]
        assert reading.warnings == ("pictures of another size than the first, so that they are scaled to it",)


def test_pictures_are_told_apart_by_their_bytes_and_times(pictures: npt.NDArray[np.uint8]) -> None:
    def digest(video: Any, **times: Any) -> str:
        memory = given_video(video, **times).pictures
        assert memory is not None
        return memory.digest()

    same = digest(pictures, fps=2)
    assert digest(list(pictures), fps=2) == same
    assert len({same, digest(pictures[::-1], fps=2), digest(pictures, fps=3), digest(pictures[:5], fps=2)}) == 4


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda p: p[0], "the array has the shape [64, 96, 3]; give [T, H, W, 3] or [T, 3, H, W]"),
        (lambda p: p[..., :2], "the array has the shape [12, 64, 96, 2]; give [T, H, W, 3] or [T, 3, H, W]"),
        (lambda p: p[:0], "the array has the shape [0, 64, 96, 3]; give [T, H, W, 3] or [T, 3, H, W]"),
        (lambda p: [p[0], p], "picture 1 has the shape [12, 64, 96, 3]; give [H, W, 3] or [3, H, W]"),
        (lambda p: [], "the list of pictures is empty; give at least one"),
        (
            lambda p: np.full_like(p, 64) * 1.0,
            "the array holds float64 values from 64 to 64; give whole numbers to 255, or fractions from 0 to 1",
        ),
        (
            lambda p: np.full_like(p, -1, dtype=np.int64),
            "the array holds int64 values from -1 to -1; give whole numbers to 255, or fractions from 0 to 1",
        ),
        (
            lambda p: p * np.nan,
            "the array holds float64 values from nan to nan; give whole numbers to 255, or fractions from 0 to 1",
        ),
        (lambda p: p > 9, "the array holds bool values; give whole numbers to 255, or fractions from 0 to 1"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(pictures: npt.NDArray[np.uint8], made: Any, reason: str) -> None:
    with pytest.raises(VideoError) as caught:
        given_video(made(pictures), fps=1)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ({}, "pictures in memory need fps="),
        ({"fps": 1, "times_s": range(12)}, "pictures in memory need fps="),
        ({"fps": 0}, "fps is 0; give a number above 0"),
        ({"times_s": [0, 1]}, r"times_s has the shape \[2\]; give 12 times, one per picture"),
        ({"times_s": [0] * 12}, "times_s must be numbers that increase from 0 or later"),
        ({"times_s": range(-1, 11)}, "times_s must be numbers that increase from 0 or later"),
    ],
)
def test_pictures_need_times(pictures: npt.NDArray[np.uint8], times: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        given_video(pictures, **times)


def test_times_of_a_file_are_its_own(clip: Path) -> None:
    with pytest.raises(ConfigError, match="times_s= is for pictures in memory"):
        given_video(clip, times_s=[1])


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        (None, f"cannot watch None; {TAKEN}"),
        (7, f"cannot watch 7; {TAKEN}"),
        ({}, f"cannot watch a dict; {TAKEN}"),
        (["a.mp4", "b.mp4"], f"cannot watch a list of str; {TAKEN}"),
        (Image.new("RGB", (4, 4)), f"cannot watch a Image; {TAKEN}"),
        ("ftp://example.org/a.mp4", f"ftp://example.org/a.mp4: addresses of this kind are not read; {TAKEN}"),
        ("file://other/a.mp4", f"file://other/a.mp4: is on another machine, other; {TAKEN}"),
        (io.StringIO("text"), "the open file: is read as text; open it as a binary file, with mode 'rb'"),
        (io.BytesIO(), "the open file: holds nothing from where it stands; go to its beginning with seek(0)"),
    ],
)
def test_what_is_no_video_is_told_what_would_be(video: Any, reason: str) -> None:
    with pytest.raises(VideoError) as caught:
        given_video(video)
    assert str(caught.value) == reason
    assert "\n" not in reason
