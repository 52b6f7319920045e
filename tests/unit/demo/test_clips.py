"""Cut clips hold the frames between both times, at their own times."""

from pathlib import Path

import av
import numpy as np
import pytest

from lavis.common.errors import VideoError
from lavis.demo.clips import cut_clip
from lavis.video import open_video
from tests.videos import shown_numbers, write_video


def test_a_clip_holds_the_frames_of_its_time(video: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    cut_clip(video, tmp_path / "cut.mp4", start_s=1.0, end_s=2.0, step=lambda: steps.append(1))
    with open_video(tmp_path / "cut.mp4") as clip:
        batch = clip.read(np.arange(clip.info.num_frames))
    assert shown_numbers(batch.frames) == list(range(25, 50))
    assert batch.times_s.tolist() == pytest.approx([index / 25 for index in range(25)], abs=1e-3)
    assert len(steps) == 7


def test_a_turned_video_is_cut_upright_and_large_ones_get_smaller(tmp_path: Path) -> None:
    write_video(tmp_path / "turned.mp4", num_frames=10, width=96, height=64, rotation=90)
    cut_clip(tmp_path / "turned.mp4", tmp_path / "cut.mp4", start_s=0, end_s=1)
    with av.open(str(tmp_path / "cut.mp4")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (64, 96)
    write_video(tmp_path / "large.mp4", num_frames=3, width=1920, height=1080)
    cut_clip(tmp_path / "large.mp4", tmp_path / "cut.mp4", start_s=0, end_s=1)
    with av.open(str(tmp_path / "cut.mp4")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (1280, 720)


def test_nothing_to_cut_is_an_error_and_leaves_no_file(video: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no frame lies between 9\.0 and 10\.0 s$"):
        cut_clip(video, tmp_path / "cut.mp4", start_s=9, end_s=10)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_given_up_leaves_no_file(video: Path, tmp_path: Path) -> None:
    def give_up() -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        cut_clip(video, tmp_path / "cut.mp4", start_s=0, end_s=1, step=give_up)
    assert list(tmp_path.iterdir()) == []
