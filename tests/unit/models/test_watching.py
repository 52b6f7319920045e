"""Models asked about many videos, and what their calls promise."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lavis
from lavis.common.errors import ConfigError, QuestionError, VideoError
from lavis.common.registry import registry
from lavis.models.loading import LoadedModel
from lavis.models.mixed import MixedModel
from lavis.models.pipeline import WatchedVideo, watch
from lavis.models.sevila.model import SeViLA
from lavis.models.watching import WatchesVideos
from tests.videos import numbered_picture, write_video

QUESTION = {"text": "What is shown?", "options": ["a box", "a ball"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, one that is none, and what else lies in folders."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "b.mp4", num_frames=8)
    write_video(folder / "c.MKV", num_frames=3)
    (folder / "a.mp4").write_bytes(b"no video")
    (folder / ".b.mp4").write_bytes(b"of macOS")
    (folder / "notes.txt").write_text("hello")
    (folder / "more.mp4").mkdir()
    return folder


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def test_watch_lists_every_option_with_its_default_and_type() -> None:
    known = parameters(watch)
    del known["model"]
    for model in (LoadedModel, MixedModel, *map(registry.get_model_class, registry.models.names())):
        found = parameters(model.watch)
        del found["self"]
        assert found == known
    assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in known.values())


def test_load_model_lists_every_option_that_some_model_takes() -> None:
    found = parameters(lavis.load_model)
    taken = {
        name
        for model in registry.models.names()
        for name in parameters(registry.get_model_class(model).from_pretrained)
        if name != "source"
    }
    own = {"name", "model_type", "is_eval", "checkpoint", "quantize", "compiled"}
    assert found.keys() == taken | own
    assert all(one.annotation is not inspect.Parameter.empty for one in found.values())
    assert inspect.signature(lavis.load_model).return_annotation is LoadedModel


def test_options_of_all_calls_for_many_videos_are_those_for_one() -> None:
    known = parameters(WatchedVideo.ask_all) | parameters(watch)
    known["frame_reader"] = parameters(WatchedVideo.ask_all)["reader"]
    for name, found in parameters(WatchesVideos.ask_videos).items():
        if name not in ("self", "videos", "questions", "progress"):
            assert (found.annotation, found.default) == (known[name].annotation, known[name].default), name


def test_every_video_of_a_folder_is_asked_and_a_bad_one_is_told(tiny_model: SeViLA, folder: Path) -> None:
    told: list[tuple[int, int, str]] = []
    found = tiny_model.ask_videos(
        folder, [QUESTION, "Why?"], num_frames=2, num_keyframes=1, progress=lambda *one: told.append(one)
    )
    names = [str(folder / name) for name in ("a.mp4", "b.mp4", "c.MKV")]
    assert [one.video for one in found] == names
    assert told == [*((number, 3, name) for number, name in enumerate(names)), (3, 3, "")]
    bad, *good = found
    assert isinstance(bad.error, VideoError)
    assert (bad.answers, repr(bad)) == ((), f"VideoAnswers({names[0]!r}, error: {bad.error})")
    for one in good:
        assert one.error is None
        assert [answer.question.text for answer in one.answers] == ["What is shown?", "Why?"]
    alone = tiny_model.watch(names[1], num_frames=2).ask("What is shown?", ["a box", "a ball"], num_keyframes=1)
    np.testing.assert_allclose(good[0].answers[0].option_scores, alone.option_scores, rtol=1e-4)


def test_what_is_too_short_for_a_question_does_not_end_the_rest(tiny_model: SeViLA, folder: Path) -> None:
    short, long = tiny_model.ask_videos([folder / "c.MKV", folder / "b.mp4"], QUESTION, num_keyframes=5)
    assert str(short.error) == "cannot choose 5 keyframes of 3 frames; ask for 1 to 3"
    assert len(long.answers) == 1


def test_all_that_is_watched_can_be_in_the_list(tiny_model: SeViLA, folder: Path) -> None:
    content = (folder / "b.mp4").read_bytes()
    found = tiny_model.ask_videos(iter([content, "nowhere.mp4", 7]), "Why?", num_frames=2)  # type: ignore[list-item]
    assert [one.video for one in found] == ["a bytes", "nowhere.mp4", "7"]
    assert [str(one.error) for one in found][:2] == ["None", "nowhere.mp4: no such file"]
    assert str(found[2].error).startswith("cannot watch 7; give a path")


def test_a_folder_of_videos_is_told_from_one_of_frames(tiny_model: SeViLA, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        tiny_model.watch(folder, fps=3)
    assert str(caught.value) == (
        f"{folder}: is a folder of 3 videos, such as 'a.mp4', not of frames; name one of them, or ask all with "
        "`sevila answer FOLDER QUESTION` or model.ask_videos"
    )
    for number in range(3):
        Image.fromarray(numbered_picture(number, width=32, height=32)).save(tmp_path / f"{number}.png")
    (frames,) = tiny_model.ask_videos(tmp_path, "Why?", fps=3)
    assert (frames.video, frames.error) == (str(tmp_path), None)
    write_video(tmp_path / "film.mp4", num_frames=3)
    assert [one.video for one in tiny_model.ask_videos(tmp_path, "Why?", fps=3)] == [str(tmp_path)]
    assert [one.video for one in tiny_model.ask_videos(tmp_path, "Why?")] == [str(tmp_path / "film.mp4")]


def test_what_cannot_be_asked_is_said_before_a_video_is_opened(tiny_model: SeViLA, tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match="option B repeats"):
        tiny_model.ask_videos(["nowhere.mp4"], {"text": "Why?", "options": ["a", "a"]})
    with pytest.raises(VideoError, match="holds neither videos nor frames"):
        tiny_model.ask_videos(tmp_path, "Why?")
    assert tiny_model.ask_videos([], "Why?") == []


def test_a_mistake_in_an_option_is_told_once(tiny_model: SeViLA, folder: Path) -> None:
    with pytest.raises(ConfigError, match="num_frames is '8'"):
        tiny_model.ask_videos([folder / "a.mp4", folder / "b.mp4"], "Why?", num_frames="8")  # type: ignore[arg-type]
