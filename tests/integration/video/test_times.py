"""Frames have the times that the file gives them, and none of them goes without a word."""

import re

import numpy as np
import pytest

from lavis.common.errors import VideoError
from lavis.common.types import Span
from lavis.video import open_video
from lavis.video.base import uniform_indices
from tests.integration.video.readers import FILE_READERS, needs_decord, needs_torchcodec
from tests.videos import cut, empty_avi_chunks, shown_numbers, write_video

# In twenty-fifths of a second: two gaps.
GAPS = [*range(20), *range(45, 60), *range(63, 70)]


def check(path, ticks, *, numbers=None, duration, reader="pyav", warnings=()):
    """Compare every frame's number and time, read one after the other and a few on their own."""
    with open_video(path, reader=reader) as video:
        numbers = list(range(len(ticks))) if numbers is None else numbers
        assert video.info.num_frames == len(ticks)
        batch = video.read(range(len(ticks)), size=64)
        assert shown_numbers(batch.frames) == numbers
        assert batch.frame_idx.tolist() == list(range(len(ticks)))
        assert batch.times_s == pytest.approx(np.array(ticks) / 25, abs=1e-3)
        for index in (len(ticks) - 1, len(ticks) // 2, 0):
            assert shown_numbers(video.read([index], size=64).frames) == [numbers[index]]
        assert video.info.duration_s == pytest.approx(duration / 25, abs=1e-3)
        assert video.info.fps == pytest.approx(25 * len(ticks) / duration, rel=0.06)
        assert video.warnings == warnings


@pytest.mark.parametrize("b_frames", [0, 1, 2, 3])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_frames_of_an_avi_keep_the_gaps_between_them(tmp_path, codec, b_frames):
    path = write_video(tmp_path / "gap.avi", times_s=[tick / 25 for tick in GAPS], codec=codec, b_frames=b_frames)
    check(path, GAPS, duration=70)


@pytest.mark.parametrize("reader", ["pyav", FILE_READERS[2]])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "msmpeg4v3"])
def test_every_reader_of_avi_keeps_its_gaps(tmp_path, codec, reader):
    path = write_video(tmp_path / "gap.avi", times_s=[tick / 25 for tick in GAPS], codec=codec, b_frames=0)
    check(path, GAPS, duration=70, reader=reader)


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "ts", "flv"])
def test_the_frames_of_other_files_keep_the_gaps_between_them(tmp_path, suffix, b_frames):
    path = write_video(tmp_path / f"gap.{suffix}", times_s=[tick / 25 for tick in GAPS], b_frames=b_frames)
    check(path, GAPS, duration=70)


@pytest.mark.parametrize(
    ("dropped", "first", "end"),
    [(range(30, 33), 0, 50), ([1, 10, 12, 49], 0, 50), (range(40, 50), 0, 50), (range(3), 3, 50)],
    ids=["within", "single ones", "at the end", "at the start"],
)
def test_an_empty_chunk_of_an_avi_is_a_time_without_a_frame_of_its_own(tmp_path, dropped, first, end):
    path = write_video(tmp_path / "dropped.avi", num_frames=50, codec="mpeg4", b_frames=0, keyframe_every=1)
    empty_avi_chunks(path, dropped)
    kept = [number for number in range(50) if number not in dropped]
    check(path, [number - first for number in kept], numbers=kept, duration=end - first)


def test_a_clip_behind_a_gap_is_read(tmp_path):
    times_s = [tick / 25 for tick in (*range(30), *range(55, 120))]
    with open_video(write_video(tmp_path / "gap.avi", times_s=times_s, codec="mpeg4", b_frames=0)) as video:
        assert (video.info.num_frames, video.info.duration_s) == (95, pytest.approx(4.8))
        assert video.times_s([29, 30, 94]) == pytest.approx([1.16, 2.2, 4.76])
        clip = uniform_indices(4, video_frames=95, fps=video.info.fps, clip=Span(4.0, 4.7))
        assert len(video.read(clip, size=32)) == 4
        assert video.warnings == ()


@pytest.mark.parametrize("b_frames", [0, 2])
def test_an_avi_that_is_cut_behind_a_gap_says_how_much_is_there(tmp_path, b_frames):
    times_s = [tick / 25 for tick in (*range(30), *range(55, 200))]
    path = write_video(tmp_path / "cut.avi", times_s=times_s, codec="mpeg4", b_frames=b_frames)
    cut(path, keep=0.6)
    with open_video(path) as video:
        num_frames = video.info.num_frames
        assert 50 < num_frames < 140
        assert video.info.duration_s == pytest.approx((num_frames + 25) / 25)
        assert video.warnings == (f"the file is cut: {num_frames} of 175 frames can be read",)


@pytest.mark.parametrize(
    ("suffix", "offset_s"),
    [("ts", "-3"), ("ts", "7"), ("ts", str(2**33 / 90_000 - 1)), ("mkv", "-3"), ("mkv", "7"), ("mp4", "7")],
    ids=["ts negative", "ts late", "ts wraps", "mkv negative", "mkv late", "mp4 late"],
)
def test_time_starts_with_the_first_frame_whatever_number_the_file_begins_with(tmp_path, suffix, offset_s):
    options = {"output_ts_offset": offset_s, "avoid_negative_ts": "disabled"}
    path = write_video(tmp_path / f"late.{suffix}", num_frames=50, muxer_options=options)
    check(path, range(50), duration=50)


JOINT = "places where its timestamps start again or jump, at which the parts are joined"
UNSURE = "the file is damaged: frames that may look wrong"  # FFmpeg's word for the frame before a joint of TS


@pytest.mark.parametrize("keyframe_every", [12, 1000])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(
    ("suffix", "codec", "header", "warnings"),
    [
        ("ts", "libx264", 0, (f"{JOINT}: 2", f"{UNSURE}: 2")),
        ("ts", "mpeg2video", 0, (f"{JOINT}: 2", f"{UNSURE}: 2")),
        ("mpg", "mpeg2video", 0, (f"{JOINT}: 2",)),
        ("flv", "libx264", 13, (f"{JOINT}: 2",)),
    ],
)
def test_parts_whose_timestamps_start_again_follow_one_another(
    tmp_path, suffix, codec, header, warnings, b_frames, keyframe_every
):
    path = tmp_path / f"part.{suffix}"
    write_video(path, num_frames=30, codec=codec, b_frames=b_frames, keyframe_every=keyframe_every)
    part = path.read_bytes()
    path.write_bytes(part + part[header:] + part[header:])
    check(path, range(90), numbers=[*range(30)] * 3, duration=90, warnings=warnings)


def test_an_mp4_behind_another_is_not_read_as_in_players_which_is_said(tmp_path):
    path = write_video(tmp_path / "joined.mp4", num_frames=30)
    path.write_bytes(path.read_bytes() * 3)
    check(path, range(30), duration=30, warnings=("it holds 3 movies one after the other, of which the first is read",))


@pytest.mark.parametrize(
    ("num_parts", "warnings"),
    [(2, (f"{JOINT}: 1",)), (3, (f"{JOINT}: 1", "the file holds another movie behind the last frame that is read"))],
)
def test_of_matroska_files_one_after_the_other_two_are_read_and_more_are_told_of(tmp_path, num_parts, warnings):
    path = write_video(tmp_path / "joined.mkv", num_frames=30)
    path.write_bytes(path.read_bytes() * num_parts)
    check(path, range(60), numbers=[*range(30)] * 2, duration=60, warnings=warnings)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["ahead", "back"])
def test_parts_whose_timestamps_lie_hours_apart_follow_one_another(tmp_path, order):
    parts = [
        write_video(tmp_path / f"{offset}.ts", num_frames=30, muxer_options={"output_ts_offset": offset}).read_bytes()
        for offset in ("0", "9000")
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts[number] for number in order))
    check(path, range(60), numbers=[*range(30)] * 2, duration=60, warnings=(f"{JOINT}: 1", f"{UNSURE}: 1"))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_of_a_part_that_starts_between_keyframes_are_left_out_and_counted(tmp_path, b_frames):
    path = write_video(tmp_path / "part.ts", num_frames=30, b_frames=b_frames)
    whole = path.read_bytes()
    half = whole[len(whole) // 376 * 188 :]
    path.write_bytes(whole + half + whole)
    with open_video(path) as video:
        numbers = shown_numbers(video.read(range(video.info.num_frames), size=64).frames)
        assert numbers == [*range(30), *range(24, 30), *range(30)]
        assert video.times_s(range(66)) == pytest.approx(np.arange(66) / 25)
        said = re.search(r"frames at the start of such a part that cannot be decoded: (\d+)", " ".join(video.warnings))
        assert said
        assert 5 < int(said[1]) < 15


@pytest.mark.parametrize(
    ("reader", "suffix"),
    [
        pytest.param("torchcodec", "ts", marks=needs_torchcodec),
        pytest.param("torchcodec", "flv", marks=needs_torchcodec),
        pytest.param("decord", "flv", marks=needs_decord),
    ],
)
def test_other_readers_refuse_files_whose_timestamps_start_again(tmp_path, reader, suffix):
    part = write_video(tmp_path / f"part.{suffix}", num_frames=30).read_bytes()
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(part + part[13 if suffix == "flv" else 0 :])
    with pytest.raises(VideoError, match="use the reader pyav"):
        open_video(path, reader=reader)


def test_frames_that_share_their_time_are_all_read(tmp_path):
    times_s = [0, 0.0001, 0.0002, 0.08, *(number / 25 for number in range(4, 30))]  # Matroska counts milliseconds
    path = write_video(tmp_path / "same.mkv", times_s=times_s, b_frames=0)
    ticks = np.array([0, 0.001, 0.002, *times_s[3:]]) * 25
    said = "frames with the time of another one, which are read right after it: 2"
    check(path, ticks, duration=30, warnings=(said,))


def test_where_all_frames_share_their_time_they_are_counted(tmp_path):
    path = write_video(tmp_path / "same.mkv", times_s=[number / 10_000 for number in range(40)], b_frames=0)
    said = "its timestamps tell no order of its frames, whose times are counted from the frame rate"
    with open_video(path) as video:
        assert shown_numbers(video.read(range(40), size=64).frames) == list(range(40))
        assert video.warnings == (said,)


@pytest.mark.parametrize(("b_frames", "done"), [(0, "put between the others"), (2, "left out")])
def test_frames_without_a_time_are_counted(tmp_path, b_frames, done):
    path = write_video(tmp_path / "untimed.ts", num_frames=30, b_frames=b_frames)
    content, position = bytearray(path.read_bytes()), -1
    packets = []
    while (position := content.find(b"\0\0\1\xe0", position + 1)) >= 0:
        packets.append(position)
    for number in (5, 6, 17):
        content[packets[number] + 7] &= 0x3F  # says that no times follow
    path.write_bytes(content)
    with open_video(path) as video:
        assert video.warnings == (f"frames without a time, which are {done}: 3",)
        assert video.info.num_frames == (27 if b_frames else 30)
        numbers = shown_numbers(video.read(range(video.info.num_frames), size=64).frames)
        assert video.times_s(range(video.info.num_frames)) == pytest.approx(np.array(numbers) / 25)
