"""A question about a part of a video: its distinct frames are watched, and every output says which part that was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lavis
from lavis.cli.main import main
from lavis.common.files import checkpoints_dir
from lavis.common.types import Span
from tests.videos import write_video

VIDEO = checkpoints_dir() / "clips" / "test_0000.mp4"  # 35 s at 4 frames a second
OPTIONS = ["--option", "field", "--option", "beach"]


@pytest.fixture(autouse=True)
def no_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_CACHE", str(tmp_path / "cache"))


def asked(capsys: pytest.CaptureFixture[str], command: str, *arguments: Any) -> dict[str, Any]:
    options = OPTIONS if command == "answer" else []
    given = [command, VIDEO, "Where is the heart?", *options, *arguments, "--device", "cpu", "--json"]
    assert main([str(argument) for argument in given]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_second_of_a_slow_video_is_its_four_frames(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # watched, and recalled
        record = asked(capsys, "answer", "--clip", 34, 35, "--num-frames", 32)
        assert [frame["time_s"] for frame in record["frame_scores"]] == [34.0, 34.25, 34.5, 34.75]
        assert [frame["frame_idx"] for frame in record["keyframes"]] == [136, 137, 138, 139]
        assert record["clip"] == {"start_s": 34.0, "end_s": 35.0}
        assert not any("clip" in caveat for caveat in record["caveats"])


@pytest.mark.parametrize("clip", [["0:34", "35"], ["0:34-0:35"], ["34-35"], ["00:00:34.0", "0:35"]], ids=" ".join)
def test_a_clip_may_be_given_as_a_clock_shows_it(capsys: pytest.CaptureFixture[str], clip: list[str]) -> None:
    assert asked(capsys, "find", "--clip", *clip)["clip"] == {"start_s": 34.0, "end_s": 35.0}
    assert asked(capsys, "find", f"--clip={'-'.join(clip)}")["clip"] == {"start_s": 34.0, "end_s": 35.0}


def test_moments_of_a_clip_lie_within_it_and_subtitles_name_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record = asked(capsys, "find", "--clip", 10.1, 11.1, "--threshold", "-1e9", "--save", tmp_path / "found")
    (moment,) = record["moments"]
    assert (moment["start_s"], moment["end_s"]) == (pytest.approx(10.1), pytest.approx(11.1))
    assert record["clip"] == {"start_s": 10.1, "end_s": 11.1}
    assert json.loads((tmp_path / "found" / "moments.json").read_text())["clip"] == record["clip"]
    lines = (tmp_path / "found" / "moments.vtt").read_text().splitlines()
    assert lines[:5] == ["WEBVTT", "", "NOTE only 10.1 to 11.1 s was searched", "", "00:00:10.100 --> 00:00:11.100"]


@pytest.mark.parametrize(("clip", "moment"), [((10, 10), (10.0, 10.25)), ((10.1, 10.2), (10.1, 10.2))])
def test_a_clip_within_one_frame_is_that_frame(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: tuple[float, float], moment: tuple[float, float]
) -> None:
    record = asked(capsys, "find", "--clip", *clip, "--threshold", "-1e9", "--save", tmp_path / "found")
    assert [frame["time_s"] for frame in record["frame_scores"]] == [10.0]
    (found,) = record["moments"]
    assert (found["start_s"], found["end_s"]) == pytest.approx(moment)
    assert main(["find", str(VIDEO), "A heart", "--clip", *map(str, clip), "--device", "cpu"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith(f"; 1 frame from {clip[0]} to {clip[1]} s watched by sevila_tiny")


@pytest.mark.parametrize(
    ("command", "clip", "watched"),
    [("answer", (34, 60), (34, 35)), ("find", (-5, 2), (0, 2)), ("answer", (30, "inf"), (30, 35))],
)
def test_a_clip_beyond_the_video_is_shortened_and_said_to_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, clip: tuple[Any, Any], watched: tuple[int, int]
) -> None:
    record = asked(capsys, command, "--clip", *clip, "--save", tmp_path / "saved")
    said = f"the clip from {clip[0]} to {clip[1]} s reaches beyond the video and was shortened to"
    assert record["caveats"][-1] == f"{said} {watched[0]} to {watched[1]} s"
    assert record["clip"] == {"start_s": watched[0], "end_s": watched[1]}
    saved = json.loads(next((tmp_path / "saved").glob("*.json")).read_text())
    assert (saved["clip"], saved["caveats"]) == (record["clip"], record["caveats"])
    shown = Image.open(tmp_path / "saved" / "scores.png")
    assert shown.format == "PNG"


def test_people_read_which_part_was_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", str(VIDEO), "Where?", *OPTIONS, "--clip", "34", "40", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("256x256; 4 frames from 34 to 35 s watched by sevila_tiny")
    assert "! the clip from 34 to 40 s reaches beyond the video and was shortened to 34 to 35 s" in lines


@pytest.mark.parametrize("command", ["answer", "find"])
@pytest.mark.parametrize("clip", [("35", "40"), ("-2", "0"), ("100", "inf")])
def test_a_clip_outside_of_the_video_is_refused(
    capsys: pytest.CaptureFixture[str], command: str, clip: tuple[str, str]
) -> None:
    options = OPTIONS if command == "answer" else []
    assert main([command, str(VIDEO), "Where?", *options, "--clip", *clip]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "lies outside the video, which lasts 35.00 s" in line


def test_python_tells_the_clip_too(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "one.mp4", num_frames=25)
    video = lavis.load_model("sevila", "tiny", device="cpu").watch(clip, clip=Span(0.5, 3))
    assert video.clip == Span(0.5, 1.0)
    assert video.frame_idx.tolist() == list(range(12, 25))
    for result in (video.ask("Where?", ["field", "beach"]), video.find("A heart")):
        assert result.clip == Span(0.5, 1.0)
        assert result.caveats[-1] == "the clip from 0.5 to 3 s reaches beyond the video and was shortened to 0.5 to 1 s"
    whole = lavis.load_model("sevila", "tiny", device="cpu").watch(clip)
    assert (whole.clip, whole.ask("Where?").clip, whole.find("A heart").clip) == (None, None, None)


def test_a_gap_in_a_folder_of_frames_is_no_end_of_it(tmp_path: Path) -> None:
    for number in (0, 1, 2, 9, 10, 11):
        Image.fromarray(np.full((32, 32, 3), 20 * number, np.uint8)).save(tmp_path / f"{number:03d}.png")
    video = lavis.load_model("sevila", "tiny", device="cpu").watch(tmp_path, fps=3, clip=Span(3, 4))
    assert video.frame_idx.tolist() == [3, 4, 5]
    assert video.times_s == pytest.approx([3, 10 / 3, 11 / 3])
    assert video.frames(np.array([5])).times_s == pytest.approx([11 / 3])
