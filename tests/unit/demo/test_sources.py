"""Which video is meant, and whether it is one."""

from pathlib import Path
from typing import Any

import pytest

from lavis.demo.files import VisitorFiles
from lavis.demo.problems import FieldError
from lavis.demo.sources import Source, Sources
from tests.videos import write_sound, write_video


def upload(files: VisitorFiles, content: bytes, name: str = "clip.mp4") -> dict[str, str]:
    path = files.folder / "hash" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"path": str(path)}


def test_a_shipped_clip_is_found_by_name(sources: Sources, video: Path) -> None:
    assert sources.find({"clip": "numbers.mp4"}) == Source(video, "numbers.mp4")


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
