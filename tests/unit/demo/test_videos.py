"""Which videos are opened, and who has watched what."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.demo.files import VisitorFiles
from lavis.demo.settings import FieldError, Settings
from lavis.demo.videos import Source, Sources, WatchedVideos, read_examples
from lavis.models.pipeline import WatchedVideo
from tests.unit.demo.conftest import BrightnessModel
from tests.videos import shown_numbers, write_sound, write_video


def upload(files: VisitorFiles, content: bytes, name: str = "clip.mp4") -> dict[str, str]:
    path = files.folder / "hash" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"path": str(path)}


def test_a_shipped_clip_is_found_by_name(sources: Sources, video: Path) -> None:
    assert sources.find({"clip": "numbers.mp4"}) == Source(video, "numbers.mp4", is_shipped=True)


def test_an_upload_is_found_by_path(sources: Sources, files: VisitorFiles) -> None:
    value = upload(files, b"x", "mine.mp4")
    assert sources.find(value) == Source(Path(value["path"]), "mine.mp4")


@pytest.mark.parametrize("value", [None, {}, "clip.mp4", [], {"path": 3}, {"clip": None}])
def test_nothing_named_is_a_message_beside_the_video(sources: Sources, value: Any) -> None:
    with pytest.raises(FieldError, match=r"^There is no video yet; upload one or choose an example\.$") as raised:
        sources.find(value)
    assert raised.value.field == "video"


def test_an_unknown_clip_suggests_the_nearest(sources: Sources) -> None:
    with pytest.raises(FieldError, match=r"^There is no clip 'number\.mp4'; did you mean 'numbers\.mp4'\?"):
        sources.find({"clip": "number.mp4"})


def test_a_video_is_told_by_its_content_and_its_path_is_not_shown(sources: Sources, files: VisitorFiles) -> None:
    source = sources.find(upload(files, b"this is no video, whatever its name says\n" * 9))
    with pytest.raises(FieldError, match=r"^clip\.mp4: not a video file") as raised:
        sources.check(source)
    assert str(files.folder) not in str(raised.value)
    assert raised.value.field == "video"


def test_what_a_video_is_is_said_under_its_name(sources: Sources, video: Path) -> None:
    info = sources.check(Source(video, "mine.mp4"))
    assert (info.path, info.num_frames, info.duration_s, info.width) == ("mine.mp4", 100, 4.0, 96)


def test_sound_alone_is_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"^sound\.mp4: holds no video, only sound$"):
        sources.check(Source(write_sound(tmp_path / "sound.mp4"), "sound.mp4"))


def test_a_long_video_is_refused(sources: Sources, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", num_frames=24, fps=2)
    with pytest.raises(FieldError, match=r"^This video lasts 12 s; at most 10 s go\.$"):
        sources.check(Source(long, "long.mp4"))


def test_a_large_file_is_refused_before_it_is_opened(sources: Sources, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(2_000_000))
    with pytest.raises(FieldError, match=r"^This file has 2 MB; at most 1 MB go\.$"):
        sources.check(Source(large, "large.mp4"))


A, B = Path("a.mp4"), Path("b.mp4")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watched(video: Path) -> WatchedVideo:
    return BrightnessModel().watch(video, num_frames=4)


def test_only_the_visitor_s_own_video_with_as_many_frames_is_found(watched: WatchedVideo) -> None:
    kept = WatchedVideos(most=4, keep_s=60)
    ours = kept.put("ada", A, num_frames=8, video=watched)
    assert kept.get("ada", A, num_frames=8) is ours
    assert kept.get("bob", A, num_frames=8) is None
    assert kept.get("ada", B, num_frames=8) is None
    assert kept.get("ada", A, num_frames=9) is None


def test_the_one_unused_for_longest_makes_room(watched: WatchedVideo) -> None:
    kept = WatchedVideos(most=2, keep_s=60)
    kept.put("ada", A, num_frames=8, video=watched)
    kept.put("ada", B, num_frames=8, video=watched)
    kept.get("ada", A, num_frames=8)
    kept.put("bob", A, num_frames=8, video=watched)
    assert kept.get("ada", A, num_frames=8) is not None
    assert kept.get("ada", B, num_frames=8) is None
    assert len(kept) == 2


def test_videos_expire(watched: WatchedVideo) -> None:
    clock = Clock()
    kept = WatchedVideos(most=4, keep_s=60, clock=clock)
    kept.put("ada", A, num_frames=8, video=watched)
    clock.now = 60
    assert len(kept) == 1
    clock.now = 61
    assert kept.get("ada", A, num_frames=8) is None
    assert len(kept) == 0


def test_a_visitor_who_leaves_is_forgotten(watched: WatchedVideo) -> None:
    kept = WatchedVideos(most=4, keep_s=60)
    kept.put("ada", A, num_frames=8, video=watched)
    kept.put("bob", A, num_frames=8, video=watched)
    kept.forget("ada")
    assert kept.get("ada", A, num_frames=8) is None
    assert kept.get("bob", A, num_frames=8) is not None


def test_each_picture_is_read_from_the_file_once_and_comes_in_the_order_asked(
    watched: WatchedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from io import BytesIO

    from PIL import Image

    read: list[int] = []
    frames = watched.frames

    def counted(frame_idx: np.ndarray) -> object:
        read.extend(frame_idx.tolist())
        return frames(frame_idx)

    monkeypatch.setattr(watched, "frames", counted)
    kept = WatchedVideos(most=1, keep_s=60).put("ada", A, num_frames=4, video=watched)
    first = kept.pictures(np.array([30, 10]))
    again = kept.pictures(np.array([10, 20, 30]))
    shown = np.stack([np.asarray(Image.open(BytesIO(picture))) for picture in (*first, *again)])
    assert shown_numbers(shown) == [30, 10, 10, 20, 30]
    assert read == [10, 30, 20]


def test_every_shipped_question_can_be_shown() -> None:
    examples = read_examples()
    assert len(examples) == 3
    for example in examples:
        assert example.clip.is_file()
        assert example.poster.startswith("data:image/jpeg;base64,")
        assert all(0 <= asked.answer < len(asked.options) <= Settings().max_options for asked in example.questions)


def test_without_clips_there_are_no_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == ()


def test_an_example_is_as_its_list_says(tmp_path: Path, video: Path) -> None:
    shutil.copy(video, tmp_path / "a.mp4")
    asked = {"question": "What?", "options": ["x", "y"], "answer": 1, "window": [1.0, 2.0]}
    (tmp_path / "questions.json").write_text(json.dumps([{"video": "a.mp4", "questions": [asked]}]))
    (example,) = read_examples(tmp_path)
    assert (example.clip.name, example.duration_s) == ("a.mp4", 4.0)
    assert (example.questions[0].text, example.questions[0].options) == ("What?", ("x", "y"))
