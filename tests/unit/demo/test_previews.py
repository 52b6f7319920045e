"""Previews are small, keep the times of their pictures, and do a bounded part of the work."""

from pathlib import Path

import numpy as np
import pytest

from lavis.common.errors import VideoError
from lavis.demo.previews import Preview, write_preview
from lavis.video import open_video
from tests.videos import shown_numbers, write_video


def test_a_preview_shows_pictures_of_the_whole_video_at_their_times(tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.avi", num_frames=400, codec="mpeg4", b_frames=0)
    steps: list[int] = []
    made = write_preview(video, tmp_path / "preview.mp4", step=lambda: steps.append(1))
    assert made == Preview(300, None)
    assert len(steps) >= 50
    with open_video(tmp_path / "preview.mp4") as preview:
        batch = preview.read(np.arange(preview.info.num_frames))
    numbers = shown_numbers(batch.frames)
    assert (len(numbers), numbers[0], numbers[-1]) == (300, 0, 399)
    assert batch.times_s == pytest.approx(np.array(numbers) / 25, abs=1e-3)


def test_of_what_is_too_much_to_decode_only_the_first_part_is_shown(tmp_path: Path) -> None:
    video = write_video(tmp_path / "large.mp4", num_frames=100, width=1280, height=720)
    made = write_preview(video, tmp_path / "preview.mp4", max_pixels=50 * 1280 * 720)
    assert made == Preview(50, 2.0)
    assert "50 pictures of its first 2 s, without sound" in str(made)
    with open_video(tmp_path / "preview.mp4") as preview:
        assert (preview.info.width, preview.info.height, preview.info.num_frames) == (640, 360, 50)


def test_what_is_no_video_has_no_preview_and_leaves_no_file(tmp_path: Path) -> None:
    text = tmp_path / "text.avi"
    text.write_text("This is text." * 50)
    with pytest.raises(VideoError):
        write_preview(text, tmp_path / "preview.mp4")
    assert not (tmp_path / "preview.mp4").exists()
