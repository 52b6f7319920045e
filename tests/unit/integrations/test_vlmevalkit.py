"""The launcher of VLMEvalKit: what stands in for a dataset's prompt; tests/harness runs it inside VLMEvalKit."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lavis.common.errors import QuestionError
from lavis.selection.frames_file import ChosenFrames, write_frames
from lavis.selection.harness import FromFile
from tests.architecture.source import ROOT
from tests.videos import shown_numbers, write_video

LAUNCHER = ROOT / "integrations" / "vlmevalkit"


class Row:
    """A row of a table, as pandas gives it."""

    def __init__(self, name: int, values: dict[str, Any]) -> None:
        self.name, self._values = name, values

    def to_dict(self) -> dict[str, Any]:
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]


class Table:
    """What of a pandas table is used; labels of rows are not their places."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.iloc = [Row(10 + number, values) for number, values in enumerate(rows)]
        self.index = self

    def __len__(self) -> int:
        return len(self.iloc)

    def get_loc(self, label: int) -> int:
        return label - 10


class Dataset:
    def __init__(self, rows: list[dict[str, Any]], *, num_videos: int = 1) -> None:
        self.data, self._num_videos = Table(rows), num_videos

    def build_prompt(self, line: Any, video_llm: bool) -> list[dict[str, str]]:
        assert video_llm is True
        videos = [{"type": "video", "value": line["path"]}] * self._num_videos
        return [{"type": "text", "value": "Look."}, *videos, {"type": "text", "value": "What?"}]


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    import importlib

    monkeypatch.syspath_prepend(LAUNCHER)
    monkeypatch.delitem(sys.modules, "sevila_vlmevalkit", raising=False)
    return importlib.import_module("sevila_vlmevalkit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one video, and frames for two questions about it."""
    write_video(tmp_path / "clip.mp4", num_frames=30)
    rows = [
        ChosenFrames(task="quiz", question_id="q0", frame_idx=(2, 5)),
        ChosenFrames(task="quiz", doc_id=1, times_s=(0.28,)),
    ]
    write_frames(tmp_path / "frames.jsonl", rows)
    return tmp_path


def prompts(launcher: Any, folder: Path, *, count: int = 2, **arguments: Any) -> Any:
    rows = [{"question_id": f"q{number}", "path": str(folder / "clip.mp4")} for number in range(count)]
    chooser = FromFile(folder / "frames.jsonl")
    return launcher.ChosenPrompts(Dataset(rows, **arguments), chooser, folder / "pictures", task="quiz")


@pytest.mark.parametrize("video_llm", [True, False])
def test_pictures_stand_where_the_video_stood(video_llm: bool, launcher: Any, folder: Path) -> None:
    prompt = prompts(launcher, folder)
    prompt.check()
    for line, frames in ((0, [2, 5]), (1, [7]), (Row(11, {}), [7])):
        before, *images, after = prompt(line, video_llm=video_llm)
        assert (before["value"], after["value"]) == ("Look.", "What?")
        assert {image["type"] for image in images} == {"image"}
        assert shown_numbers(np.stack([np.asarray(Image.open(one["value"])) for one in images])) == frames
    assert prompt.shown == {0: 2, 1: 1}


def test_questions_about_one_video_have_pictures_of_their_own(launcher: Any, folder: Path) -> None:
    prompt = prompts(launcher, folder)
    first, second = ({part["value"] for part in prompt(line) if part["type"] == "image"} for line in (0, 1))
    assert not first & second


def test_a_question_without_frames_is_found_before_any_is_asked(launcher: Any, folder: Path) -> None:
    with pytest.raises(QuestionError, match=r"has no frames for question 'q2' of 'quiz'"):
        prompts(launcher, folder, count=3).check()


@pytest.mark.parametrize("num_videos", [0, 2])
def test_one_video_is_needed(num_videos: int, launcher: Any, folder: Path) -> None:
    with pytest.raises(QuestionError, match=rf"quiz shows {num_videos} videos in row 0; one is needed"):
        prompts(launcher, folder, num_videos=num_videos)(0)
