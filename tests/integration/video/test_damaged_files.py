"""Bad files give one clear line; half-good ones give their good half and say so."""

import os
import random
import re

import av
import numpy as np
import pytest

from lavis.common.errors import VideoError
from lavis.video import index as index_module
from lavis.video import limits as limits_module
from lavis.video import open_video
from lavis.video import pyav as pyav_module
from tests.integration.video.readers import FILE_READERS, needs_decord, needs_torchcodec
from tests.timing import cpu_seconds_at_most
from tests.videos import cut, real_clip, set_edit, shown_numbers, write_sound, write_video


def missing(folder):
    return folder / "nowhere.mp4", "no such file"


def empty(folder):
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4", "the file is empty"


def text(folder):
    (folder / "text.mp4").write_text("Not a video.\n" * 50)
    return folder / "text.mp4", "not a video file, or damaged beyond reading (no known format)"


def playlist(folder):
    """A format that would have FFmpeg open other files."""
    video = write_video(folder / "good.mp4", num_frames=2)
    (folder / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{video.name}'\n")
    return folder / "list.mp4", "not a video file, or damaged beyond reading"


def sound(folder):
    return write_sound(folder / "sound.mp4"), "holds no video, only sound"


def frameless(folder):
    path = folder / "frameless.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    return path, "holds no video"


def hidden(folder):
    """An edit list that shows nothing of the video."""
    path = write_video(folder / "hidden.mp4", num_frames=10)
    set_edit(path, skipped_frames=1000, shown_frames=10)
    return path, "holds no video frames"


def no_index(folder):
    path = write_video(folder / "headless.mp4", num_frames=30)  # its index is at the end
    cut(path, keep=0.5)
    return path, "not a video file, or damaged beyond reading (Invalid data found"


def pipe(folder):
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4", "is not a regular file"


def line_break(folder):
    return folder / "two\nlines.mp4", "no such file"


def empty_folder(folder):
    (folder / "folder").mkdir()
    return folder / "folder", "holds no images"


BAD = [missing, empty, text, playlist, sound, frameless, hidden, no_index, pipe, line_break, empty_folder]


@pytest.mark.parametrize("reader", FILE_READERS)
@pytest.mark.parametrize("make", BAD)
def test_a_bad_file_is_named_with_the_reason_in_one_line(make, reader, tmp_path):
    path, reason = make(tmp_path)
    with pytest.raises(VideoError) as raised:
        open_video(path, reader=reader, fps=3)
    message = str(raised.value)
    assert message.startswith(f"{path}".replace("\n", " ") + ": ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("suffix", "settings", "warning"),
    [
        ("mp4", {"muxer_options": {"movflags": "faststart"}}, r"the file is cut: (\d+) of 200 frames can be read"),
        (
            "mp4",
            {"muxer_options": {"movflags": "frag_keyframe+empty_moov"}},
            r"the file is cut: (\d+) of at least \d+ frames can be read",
        ),
        ("mkv", {}, r"the file is cut: \d\.\d of 8\.0 s can be read"),
        ("avi", {}, r"the file is cut: (\d+) of 200 frames can be read"),
    ],
    ids=["mp4", "fragmented mp4", "matroska", "avi"],
)
def test_the_readable_part_of_a_cut_file_is_read_with_a_warning_that_says_how_much(tmp_path, suffix, settings, warning):
    path = write_video(tmp_path / f"cut.{suffix}", num_frames=200, b_frames=0, **settings)
    cut(path, keep=0.6)
    with open_video(path) as video:
        num_frames = video.info.num_frames
        assert 80 < num_frames < 130
        assert len(video.warnings) == 1
        said = re.fullmatch(warning, video.warnings[0])
        assert said, video.warnings
        assert [int(number) for number in said.groups()] == [num_frames] * len(said.groups())
        batch = video.read(range(num_frames), size=64)
        assert shown_numbers(batch.frames) == list(range(num_frames))
        assert video.info.duration_s == pytest.approx(num_frames / 25)
        assert len(video.warnings) == 1


def packet_span(path, number):
    with av.open(str(path)) as container:
        for index, packet in enumerate(container.demux(video=0)):
            if index == number:
                return packet.pos, packet.size
    raise AssertionError


def spoil(path, numbers):
    spans = [packet_span(path, number) for number in numbers]
    content = bytearray(path.read_bytes())
    for start, size in spans:
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)


@pytest.mark.parametrize(("spoiled", "given"), [([10], [9, 9, 11]), ([10, 11], [9, 9, 9])])
def test_a_damaged_frame_is_replaced_by_the_one_before_under_its_own_index(tmp_path, spoiled, given):
    path = write_video(tmp_path / "damaged.mp4", num_frames=20, keyframe_every=1, b_frames=0)
    spoil(path, spoiled)
    with open_video(path) as video:
        batch = video.read([9, 10, 11], size=64)
        assert batch.frame_idx.tolist() == given
        assert shown_numbers(batch.frames) == given
        assert batch.times_s == pytest.approx(np.array(given) / 25)
        warning = f"frames that cannot be decoded, so that those nearest to them are used: {len(spoiled)}"
        assert video.warnings == (warning,)


def test_frames_that_lost_a_part_are_counted(tmp_path):
    path = tmp_path / "damaged.mp4"
    path.write_bytes(real_clip("bikes.mp4").read_bytes())
    start, size = packet_span(path, 5)
    content = bytearray(path.read_bytes())
    content[start + size // 2 : start + size] = b"\xff" * (size - size // 2)
    path.write_bytes(content)
    with open_video(path) as video:
        video.read(range(20), size=64)
        video.read(range(20), size=64)
        assert video.warnings == ("frames of which a part was lost, so that FFmpeg filled it in: 1",)


def test_frames_after_a_destroyed_group_are_those_before_it(tmp_path):
    path = write_video(tmp_path / "damaged.mp4", num_frames=40, keyframe_every=5, b_frames=0)
    spoil(path, range(15, 40))
    with open_video(path) as video:
        assert shown_numbers(video.read([14, 30, 39], size=64).frames) == [14, 14, 14]
        assert shown_numbers(video.read([39], size=64).frames) == [14]


def test_a_video_of_too_many_frames_is_read_up_to_the_limit(tmp_path, monkeypatch):
    path = write_video(tmp_path / "long.mp4", num_frames=40)
    monkeypatch.setattr(index_module, "_MAX_PACKETS", 24)
    with open_video(path) as video:
        assert video.info.num_frames == 24
        assert video.warnings == ("the video is too long: only its first 24 frames are read",)
        assert shown_numbers(video.read([0, 20], size=64).frames) == [0, 20]


def test_decoding_gives_up_after_many_packets_without_a_frame(tmp_path, monkeypatch):
    path = write_video(tmp_path / "noise.mp4", num_frames=60, keyframe_every=1, b_frames=0)
    spoil(path, range(5, 55))
    monkeypatch.setattr(pyav_module, "_MAX_FAILURES", 10)
    with open_video(path) as video:
        assert shown_numbers(video.read([3, 30, 58], size=64).frames) == [3, 4, 58]


def test_a_video_starts_at_its_first_good_keyframe(tmp_path):
    path = write_video(tmp_path / "damaged.mp4", num_frames=20, keyframe_every=5, b_frames=0)
    spoil(path, [0])
    with open_video(path) as video:
        assert video.info.num_frames == 15
        batch = video.read([0, 14], size=64)
        assert shown_numbers(batch.frames) == [5, 19]
        assert batch.times_s == pytest.approx([0, 14 / 25])
        assert video.warnings == ("frames at the start that cannot be decoded: 5",)


def test_a_picture_too_large_is_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "large.mp4", num_frames=2, width=96, height=64)
    monkeypatch.setattr(limits_module, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(VideoError, match=r"its pictures of 96 × 64 pixels \(yuv420p\) are too large"):
        open_video(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_files_with_flipped_bits_give_frames_or_a_video_error(tmp_path, suffix):
    path = write_video(tmp_path / f"good.{suffix}", num_frames=30)
    good = path.read_bytes()
    for seed in range(25):
        rng = random.Random(seed)
        content = bytearray(good)
        for _ in range(rng.choice([1, 10, 200])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            with open_video(path) as video:
                last = video.info.num_frames - 1
                assert video.read([0, last // 2, last], size=32).frames.shape == (3, 32, 32, 3)
        except VideoError as error:
            line = str(error)
            assert line.startswith(f"{path}: "), line


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_files_with_flipped_bits_do_not_hold_anyone_up(tmp_path, suffix):
    with cpu_seconds_at_most(30):
        test_files_with_flipped_bits_give_frames_or_a_video_error(tmp_path, suffix)


@needs_decord
@pytest.mark.parametrize("suffix", ["ts", "avi"])
def test_decord_refuses_what_it_is_known_to_read_wrongly(tmp_path, suffix):
    path = write_video(tmp_path / f"clip.{suffix}")
    with pytest.raises(VideoError, match=r"decord does not read .* files reliably; use the reader pyav"):
        open_video(path, reader="decord")


@needs_decord
def test_decord_refuses_files_whose_frames_it_counts_wrongly(tmp_path):
    path = write_video(tmp_path / "edited.mp4", num_frames=50)
    set_edit(path, skipped_frames=7, shown_frames=20)
    with pytest.raises(VideoError, match="decord finds 49 frames where 20 are shown; use the reader pyav"):
        open_video(path, reader="decord")


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        pytest.param("decord", "decord gives wrong frames of open groups of pictures", marks=needs_decord),
        pytest.param("torchcodec", "torchcodec fails on open groups of pictures", marks=needs_torchcodec),
    ],
)
def test_readers_refuse_open_groups_which_they_were_seen_to_read_wrongly(tmp_path, reader, reason):
    options = {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}
    path = write_video(tmp_path / "open.mp4", num_frames=40, codec_options=options)
    with pytest.raises(VideoError, match=reason):
        open_video(path, reader=reader)


@needs_decord
def test_a_size_that_decord_fails_at_is_an_error_that_says_so(tmp_path):
    path = write_video(tmp_path / "clip.mp4", num_frames=3)
    with (
        open_video(path, reader="decord") as video,
        pytest.raises(VideoError, match="decord cannot decode it at size 48; use the reader pyav"),
    ):
        video.read([0], size=48)
