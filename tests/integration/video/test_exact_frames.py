"""The very frames asked for come back, whatever the file looks like inside."""

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lavis.video import open_video
from lavis.video import pyav as pyav_module
from tests.integration.video.readers import FILE_READERS
from tests.videos import set_edit, shown_numbers, write_video

VARIABLE_TIMES_S = [0, 0.04, 0.05, 0.3, 0.31, 0.32, 0.9, 1.0, 1.5, 1.51, 1.6, 2.0, 2.2]


@dataclass
class Clip:
    """A kind of file: how it is written and what a player shows of it."""

    settings: dict[str, Any]
    suffix: str = "mp4"
    shown: list[int] = field(default_factory=lambda: list(range(40)))
    fps: float = 25


def regular(suffix="mp4", **settings):
    return Clip({"num_frames": 40, **settings}, suffix=suffix)


# Read by every reader.
COMMON = {
    "b-frames": regular(b_frames=3),
    "no b-frames": regular(b_frames=0),
    "one keyframe only": regular(keyframe_every=1000, b_frames=3),
    "every frame a keyframe": regular(keyframe_every=1, b_frames=0),
    "one frame": Clip({"num_frames": 1}, shown=[0]),
    "turned 90": regular(rotation=90),
    "turned 180": regular(rotation=180),
    "turned 270": regular(rotation=270),
    "mirrored left to right": regular(matrix=(-1, 0, 0, 1)),
    "mirrored top to bottom": regular(matrix=(1, 0, 0, -1)),
    "transposed": regular(matrix=(0, 1, 1, 0)),
    "transposed on the other diagonal": regular(matrix=(0, -1, -1, 0)),
    "ntsc": Clip({"num_frames": 40, "fps": 30000 / 1001}, fps=30000 / 1001),
    "fragments": regular(muxer_options={"movflags": "frag_keyframe+empty_moov"}),
    "matroska": regular("mkv"),
    "variable frame rate": Clip({"times_s": VARIABLE_TIMES_S}, shown=list(range(13)), fps=13 / 2.24),
}
# Other structures, containers and codecs, read by the default reader.
FURTHER = {
    "open groups": regular(codec_options={"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}),
    "avi": regular("avi", b_frames=3),
    "transport stream": regular("ts"),
    "flash": regular("flv"),
    "no container": regular("h264"),
    "mpeg-4 part 2": regular("avi", codec="mpeg4"),
    "vp9": regular("webm", codec="libvpx-vp9", codec_options={"deadline": "realtime", "cpu-used": "8"}),
    "vp8": regular("webm", codec="libvpx", codec_options={"deadline": "realtime"}),
}


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory):
    folder, written = tmp_path_factory.mktemp("clips"), {}

    def path_of(name):
        if name not in written:
            clip = {**COMMON, **FURTHER}[name]
            written[name] = write_video(folder / f"{name}.{clip.suffix}", **clip.settings)
        return written[name]

    return path_of


def check(path, clip, reader):
    with open_video(path, reader=reader) as video:
        last = len(clip.shown) - 1
        assert video.info.num_frames == len(clip.shown)
        assert video.info.fps == pytest.approx(clip.fps)
        everything = video.read(range(last + 1), size=64)
        assert shown_numbers(everything.frames) == clip.shown
        assert everything.frame_idx.tolist() == list(range(last + 1))
        some = [0, last // 3, last // 2, last // 2, last]  # one of them twice
        assert shown_numbers(video.read(some).frames) == [clip.shown[index] for index in some]
        alone = [shown_numbers(video.read([index], size=32).frames)[0] for index in reversed(range(0, last + 1, 7))]
        assert alone == [clip.shown[index] for index in reversed(range(0, last + 1, 7))]
        assert video.warnings == ()


@pytest.mark.parametrize("reader", FILE_READERS)
@pytest.mark.parametrize("name", COMMON)
def test_every_reader_gives_the_frames_asked_for(name, reader, clip_path):
    check(clip_path(name), COMMON[name], reader)


@pytest.mark.parametrize("name", FURTHER)
def test_the_default_reader_gives_the_frames_asked_for(name, clip_path):
    check(clip_path(name), FURTHER[name], "pyav")


@pytest.mark.parametrize("reader", ["pyav", FILE_READERS[2]])
def test_frames_that_an_edit_list_hides_are_not_counted_and_not_given(tmp_path, reader):
    path = write_video(tmp_path / "edited.mp4", num_frames=50)
    set_edit(path, skipped_frames=7, shown_frames=20)
    check(path, Clip({}, shown=list(range(7, 27))), reader)
    with open_video(path, reader=reader) as video:
        assert video.info.duration_s == pytest.approx(20 / 25)
        assert video.times_s([0, 19]) == pytest.approx([0, 19 / 25])


def test_times_are_those_of_the_frames_not_of_an_average_rate(clip_path):
    with open_video(clip_path("variable frame rate")) as video:
        assert video.read([0, 3, 9, 12], size=32).times_s == pytest.approx([0, 0.3, 1.51, 2.2], abs=1e-5)
        assert video.info.duration_s == pytest.approx(2.24, abs=1e-5)


@pytest.mark.parametrize("name", ["avi", "transport stream", "flash", "matroska", "b-frames", "no container"])
def test_time_starts_with_the_first_frame_shown(name, clip_path):
    with open_video(clip_path(name)) as video:
        assert video.times_s(range(40)) == pytest.approx(np.arange(40) / 25)
        assert video.info.duration_s == pytest.approx(1.6)


@pytest.mark.parametrize(("rotation", "shape"), [(0, (64, 96)), (90, (96, 64)), (180, (64, 96)), (270, (96, 64))])
def test_size_is_that_of_the_upright_picture(tmp_path, rotation, shape):
    path = write_video(tmp_path / "turned.mp4", num_frames=3, rotation=rotation, width=96, height=64)
    with open_video(path) as video:
        assert (video.info.height, video.info.width, video.info.rotation) == (*shape, rotation)
        assert video.read([0, 2]).frames.shape == (2, *shape, 3)
        assert video.read([0, 2], size=32).frames.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("reader", FILE_READERS)
@pytest.mark.parametrize(
    ("angle", "mirrored", "done"),
    [(89.5, False, 90), (30, False, 0), (100, False, 90), (170, True, 180), (-60, True, 270), (359.7, True, 0)],
)
def test_a_display_matrix_of_an_odd_angle_is_rounded_to_a_right_angle_with_a_warning(
    tmp_path, angle, mirrored, done, reader
):
    """Beyond a degree; FFmpeg tolerates as much when it turns pictures by right angles."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix = (-cos, -sin, -sin, cos) if mirrored else (cos, sin, -sin, cos)
    right = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[done]
    path = tmp_path / "odd.mp4"
    laid = (-right[0], -right[1], *right[2:]) if mirrored else right
    write_video(path, num_frames=6, matrix=laid)
    stored = struct.pack(">9i", *(round(65536 * number) for number in (*laid[:2], 0, *laid[2:])), 0, 0, 0, 1 << 30)
    asked = struct.pack(">9i", *(round(65536 * number) for number in (*matrix[:2], 0, *matrix[2:])), 0, 0, 0, 1 << 30)
    before, _, behind = path.read_bytes().rpartition(stored)  # the track's, behind the one of the whole movie
    path.write_bytes(before + asked + behind)
    with open_video(path, reader=reader) as video:
        assert (video.info.rotation, video.info.mirrored) == (done, mirrored)
        assert shown_numbers(video.read(range(6), size=64).frames) == list(range(6))
        said = f"its pictures are to be turned by {angle % 360:.0f}°, which is rounded to {done}°"
        assert video.warnings == ((said,) if abs((angle - done + 180) % 360 - 180) > 1 else ())


@pytest.fixture
def packets_read(monkeypatch):
    """Collect the packets that are read for decoding."""
    collected = []
    packets = pyav_module.PacketReader

    def collecting(container, stream):
        for packet in packets(container, stream):
            collected.append(packet)
            yield packet

    monkeypatch.setattr(pyav_module, "PacketReader", collecting)
    return collected


def test_many_frames_of_one_group_are_decoded_in_one_pass(clip_path, packets_read):
    with open_video(clip_path("one keyframe only")) as video:
        packets_read.clear()
        video.read(range(0, 40, 2), size=32)
    assert len(packets_read) <= 40


def test_a_late_frame_is_decoded_from_the_keyframe_before_it(tmp_path, packets_read):
    path = write_video(tmp_path / "long.mp4", num_frames=300, keyframe_every=20)
    with open_video(path) as video:
        packets_read.clear()
        assert shown_numbers(video.read([10, 290], size=64).frames) == [10, 290]
    assert len(packets_read) < 50


def test_few_frames_of_a_long_video_are_decoded_from_the_keyframes_before_them(tmp_path, packets_read):
    path = write_video(tmp_path / "long.mp4", num_frames=1000, keyframe_every=5)
    asked = list(range(7, 1000, 25))
    with open_video(path) as video:
        packets_read.clear()
        for some in (asked[::2], asked[1::2]):  # some positions first, others later
            assert shown_numbers(video.read(some, size=64).frames) == some
    ahead = 8  # what is read beyond a frame, for the decoder's threads and the order of decoding
    assert len(packets_read) <= sum(index % 5 + 1 + ahead for index in asked) < 500


@pytest.fixture
def scans(monkeypatch):
    """Collect the files whose packets are read to find their frames; files count as settled at once."""
    monkeypatch.setattr(pyav_module, "_SETTLED_S", -1.0)
    monkeypatch.setattr(pyav_module, "_kept_indexes", {})
    collected = []
    build_index = pyav_module.build_index

    def collecting(container, stream):
        collected.append(container.name)
        return build_index(container, stream)

    monkeypatch.setattr(pyav_module, "build_index", collecting)
    return collected


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "h264"])
def test_a_file_that_stays_as_it_is_is_scanned_once(tmp_path, scans, suffix):
    path = write_video(tmp_path / f"clip.{suffix}", num_frames=60, keyframe_every=20)
    for asked in ([3, 50], [20, 41], [0, 59]):
        with open_video(path) as video:
            assert shown_numbers(video.read(asked, size=64).frames) == asked
    assert len(scans) == 1


def test_a_file_that_changed_is_scanned_again(tmp_path, scans):
    path = write_video(tmp_path / "clip.mp4", num_frames=6)
    open_video(path).close()
    write_video(path, num_frames=9)
    with open_video(path) as video:
        assert video.info.num_frames == 9
    assert len(scans) == 2


def test_a_file_that_changed_just_now_is_scanned_at_every_opening(tmp_path, scans, monkeypatch):
    monkeypatch.setattr(pyav_module, "_SETTLED_S", 3600.0)
    path = write_video(tmp_path / "clip.mp4", num_frames=6)
    for _ in range(2):
        open_video(path).close()
    assert len(scans) == 2


def test_only_the_latest_few_indexes_are_kept(tmp_path, scans):
    paths = [write_video(tmp_path / f"{number}.mp4", num_frames=2) for number in range(10)]
    for path in (*paths, paths[0], paths[9]):
        open_video(path).close()
    assert len(scans) == 11
    assert len(pyav_module._kept_indexes) == 8


def test_readings_may_be_interleaved(clip_path):
    with open_video(clip_path("b-frames")) as video:
        one = video.stream(range(0, 40, 3), size=48, chunk=2)
        other = video.stream(range(1, 40, 3), size=48, chunk=2)
        pairs = list(zip(one, other, strict=False))
    assert [number for batch, _ in pairs for number in shown_numbers(batch.frames)] == list(range(0, 40, 3))
    assert [number for _, batch in pairs for number in shown_numbers(batch.frames)] == list(range(1, 40, 3))
