"""Files that make FFmpeg work on and on without giving out a frame are given up, after so much work for their size."""

from pathlib import Path

import pytest

from lavis.common.errors import VideoError
from lavis.video import limits as limits_module
from lavis.video import open_video
from tests.videos import shown_numbers, write_video

MB = 1 << 20
_READ_S = 0.02  # by the clock of these tests, on which nothing but reading from the file takes time


@pytest.fixture
def num_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often FFmpeg reads, and let nothing else take time."""
    counted = [0]

    class Clock:
        @staticmethod
        def thread_time() -> float:
            counted[0] += 1
            return counted[0] * _READ_S

    monkeypatch.setattr(limits_module, "time", Clock)
    return counted


FILLINGS = {
    "ivf": ({"codec": "libvpx", "codec_options": {"deadline": "realtime"}}, bytes(12)),
    "mpg": ({"codec": "mpeg2video"}, b"\0\0\1\xe0\0\3\x80\0\0"),
    "mkv": (
        {"muxer_options": {"live": "1"}},
        b"\x1f\x43\xb6\x75\xff\xe7\x81\0" + b"\xa3\x84\x81\0\0\x80" * 1000,
    ),
}


@pytest.mark.parametrize("suffix", FILLINGS)
def test_a_file_of_countless_empty_frames_is_given_up(suffix: str, tmp_path: Path, num_reads: list[int]) -> None:
    settings, filling = FILLINGS[suffix]
    path = write_video(tmp_path / f"empty.{suffix}", num_frames=5, b_frames=0, **settings)  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes() + filling * (16 * MB // len(filling)))
    with pytest.raises(VideoError, match="finding its frames takes too much work for its size; convert it to MP4"):
        open_video(path)
    allowed = limits_module._ALLOWED_S + path.stat().st_size / limits_module._ALLOWED_BYTES_PER_S
    assert num_reads[0] < allowed / _READ_S + 100  # at the end, FFmpeg tries again a few times


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_good_file_is_read_within_a_fifth_of_the_work_that_it_may_take(
    suffix: str, tmp_path: Path, num_reads: list[int]
) -> None:
    path = write_video(tmp_path / f"good.{suffix}", num_frames=200)
    with open_video(path) as video:
        assert num_reads[0] < limits_module._ALLOWED_S / _READ_S / 5
        assert shown_numbers(video.read([0, 199], size=64).frames) == [0, 199]


def test_work_is_counted_until_all_packets_are_found_and_not_while_frames_are_read(
    tmp_path: Path, num_reads: list[int]
) -> None:
    path = write_video(tmp_path / "long.mp4", num_frames=300, keyframe_every=5)
    with open_video(path) as video:
        for _ in range(20):
            assert shown_numbers(video.read([0, 299], size=64).frames) == [0, 299]
    assert num_reads[0] < limits_module._ALLOWED_S / _READ_S
