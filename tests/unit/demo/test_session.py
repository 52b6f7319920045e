"""Watched videos are kept for their visitor, in a bounded number and for a bounded time."""

from pathlib import Path

import numpy as np
import pytest

from lavis.demo.session import WatchedVideos
from lavis.models.pipeline import WatchedVideo
from tests.unit.demo.conftest import BrightnessModel
from tests.videos import shown_numbers

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
