"""The cache through the commands: what they remember, where, and how it is forgotten."""

import json
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.datasets.dataset import SampleKey, VideoQuestionDataset
from lavis.models.fingerprint import video_digest
from lavis.models.frame_cache import FrameCache
from tests.integration.evaluation.benchmarks import read_lines, recipe, without_time
from tests.integration.evaluation.questions import ASKED, MISSING, settings, write_questions
from tests.integration.training.tiny_run import write_tiny_model
from tests.videos import write_video


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SEVILA_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=40)


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def record(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The JSON a command prints, with the parts that took time instead of the time they took."""
    found = json.loads(output(capsys, *arguments, "--num-frames", 4, "--device", "cpu", "--json"))
    found["cost"].pop("seconds")
    return {**found, "timings_s": {part for part, seconds in found["timings_s"].items() if seconds}}


def test_answer_and_find_share_what_was_watched(
    clip: Path, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    asked = ("answer", clip, "What is shown?", "-o", "a box", "-o", "a ball")
    plain = record(capsys, *asked, "--no-cache")
    assert not own_cache.exists()
    assert record(capsys, *asked) == plain
    assert "decode" in plain["timings_s"]
    again = record(capsys, *asked)
    assert (plain.pop("frames_remembered"), again.pop("frames_remembered")) == (0, 4)
    assert (plain["cost"].pop("frames_decoded"), again["cost"].pop("frames_decoded")) == (4, 0)
    assert again.pop("timings_s") == plain.pop("timings_s") - {"decode"}
    assert again == plain
    assert "decode" not in record(capsys, "find", clip, "A box moves")["timings_s"]
    assert FrameCache().usage().entries == 1


def test_the_folder_can_be_named(clip: Path, capsys: pytest.CaptureFixture[str], own_cache: Path) -> None:
    other = own_cache.with_name("other")
    record(capsys, "find", clip, "A box", "--cache-dir", other)
    assert FrameCache(other).usage().entries == 1
    assert not own_cache.exists()


def test_info_and_clear(clip: Path, capsys: pytest.CaptureFixture[str], own_cache: Path) -> None:
    assert output(capsys, "cache", "info") == f"{own_cache}: 0 watched videos, 0.0 MiB\n"
    cache = FrameCache()
    record(capsys, "find", clip, "A box")
    size = cache.usage().num_bytes
    shown = json.loads(output(capsys, "cache", "info", "--json"))
    assert shown == {"folder": str(own_cache), "videos": 1, "bytes": size}
    assert output(capsys, "cache", "clear") == f"{own_cache}: removed 1 watched video, {size / 2**20:.1f} MiB\n"
    assert cache.usage().entries == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cache-dir", "setup.py"), "the cache setup.py is a file; name a folder"),
        (("--cache-size", "0"), "a cache of 0 bytes holds nothing; allow it at least 1"),
    ],
)
def test_a_cache_that_cannot_be_is_refused_before_anything_is_loaded(
    clip: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["find", str(clip), "A box", *options]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_evaluation_recalls_what_an_earlier_one_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = write_questions(tmp_path / "data"), write_tiny_model(tmp_path / "model")
    read: list[int] = []
    original = VideoQuestionDataset.__getitem__

    def counted(self: VideoQuestionDataset, key: SampleKey) -> Any:
        read.append(key.index)
        return original(self, key)

    monkeypatch.setattr(VideoQuestionDataset, "__getitem__", counted)

    def evaluate(name: str, *options: str) -> list[dict[str, Any]]:
        read.clear()
        given = settings(data, model=model, output=tmp_path / name)
        assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), *options, "--options", *given]) == 0
        return without_time(read_lines(tmp_path / name / "predictions.jsonl"))

    plain = evaluate("plain")
    assert not FrameCache().folder.exists()
    assert evaluate("first", "--cache") == plain
    assert len(read) == len(ASKED)
    # Videos of the same bytes are one video.
    there = {(video_digest(data / "videos" / f"{video}.mp4"), clip) for video, clip in ASKED if video != MISSING}
    assert FrameCache().usage().entries == len(there)
    assert evaluate("again", "--cache") == plain
    missing = {
        index for index, row in enumerate(json.loads((data / "val.json").read_text())) if row["video"] == MISSING
    }
    assert len(read) == 1
    assert set(read) <= missing
