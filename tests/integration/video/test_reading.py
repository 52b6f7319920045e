"""Batches, memory, real clips, the published geometry, folders of frames, optional packages."""

import gc
import importlib
import subprocess
import sys
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from lavis.common.errors import ConfigError, MissingExtraError, UserError, VideoError
from lavis.common.registry import registry
from lavis.video import open_video
from lavis.video.base import uniform_indices
from tests.integration.video.readers import FILE_READERS, needs_decord, needs_torchcodec
from tests.videos import numbered_picture, real_clip, shown_numbers, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=200)


@pytest.mark.parametrize("reader", FILE_READERS)
def test_a_stream_gives_the_same_frames_in_batches(clip, reader):
    wanted = [0, 3, 3, 3, 10, 50, 51, 199]
    with open_video(clip, reader=reader) as video:
        whole = video.read(wanted, size=64)
        parts = list(video.stream(wanted, size=64, chunk=3))
    assert [len(part) for part in parts] == [3, 3, 2]
    for name in ("frames", "frame_idx", "times_s"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    assert shown_numbers(whole.frames) == wanted
    assert whole.frames.dtype == np.uint8
    assert whole.times_s == pytest.approx(np.array(wanted) / 25)


def test_a_stream_never_holds_more_than_a_few_batches_however_long_the_video(clip):
    size, chunk = 224, 4
    with open_video(clip) as video:
        tracemalloc.start()
        frames = sum(len(batch) for batch in video.stream(range(200), size=size, chunk=chunk))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert frames == 200
    assert peak < 3 * chunk * size * size * 3


def test_a_title_that_is_no_utf8_does_not_matter(tmp_path):
    path = write_video(tmp_path / "clip.mkv", num_frames=30)
    title = b"Lavf"  # the muxer names itself
    assert title in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(title, b"\xff\x83e\xfe"))
    with open_video(path) as video:
        assert shown_numbers(video.read([0, 29], size=64).frames) == [0, 29]


def test_no_indices_give_no_frames(clip):
    with open_video(clip) as video:
        assert video.read([], size=32).frames.shape == (0, 32, 32, 3)
        assert list(video.stream([], size=32)) == []


@pytest.mark.parametrize("indices", [[200], [-1], [5, 1000]])
def test_an_index_outside_the_video_is_named(clip, indices):
    with open_video(clip) as video, pytest.raises(VideoError, match=r"has no frame (200|-1|1000); it has 200"):
        video.read(indices)


def test_indices_must_be_in_time_order(clip):
    with open_video(clip) as video, pytest.raises(ValueError, match="must not decrease"):
        video.read([5, 4])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
@pytest.mark.parametrize("reader", FILE_READERS)
def test_closing_releases_the_file(clip, reader):
    def handles():
        return [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.resolve() == clip]

    with open_video(clip, reader=reader) as video:
        video.read([0, 100], size=32)
    video.close()
    if reader == "pyav":
        assert handles() == []
    del video
    assert handles() == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list threads")
def test_the_decoder_and_its_threads_go_without_waiting_for_the_garbage_collector(clip):
    def threads():
        return len(list(Path("/proc/self/task").iterdir()))

    gc.collect()
    before = threads()
    gc.disable()
    try:
        for _ in range(3):
            with open_video(clip) as video:
                video.read([0, 100, 150], size=32)
            del video
        # The system lists a thread for a moment longer than whoever joins it waits.
        deadline = time.monotonic() + 60
        while threads() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threads() <= before
    finally:
        gc.enable()


def test_an_unknown_reader_suggests_the_nearest(clip):
    with pytest.raises(ConfigError, match="unknown video reader 'pyva'; did you mean 'pyav'"):
        open_video(clip, reader="pyva")


def test_readers_are_listed_without_importing_them():
    code = (
        "import sys, lavis.video\n"
        "from lavis.common.registry import registry\n"
        "print(*registry.video_readers.names(), {'av', 'torch', 'decord', 'PIL'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["decord", "frames", "pyav", "torchcodec", "set()"]
    assert registry.video_readers.names() == ["decord", "frames", "pyav", "torchcodec"]


@pytest.mark.parametrize(("package", "extra"), [("decord", "decord"), ("torchcodec", "torchcodec")])
def test_a_missing_package_names_the_extra_that_installs_it(monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.decoders", None)
    monkeypatch.delitem(sys.modules, f"lavis.video.{package}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'sevila\[{extra}\]'"):
        importlib.import_module(f"lavis.video.{package}")


def test_a_torchcodec_that_does_not_go_with_this_machine_is_no_missing_package(monkeypatch, tmp_path):
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text("raise OSError('libnvrtc.so.13: cannot open shared object')")
    (tmp_path / "torchcodec-9.dist-info").mkdir()
    (tmp_path / "torchcodec-9.dist-info" / "METADATA").write_text("Name: torchcodec\nVersion: 9\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "lavis.video.torchcodec", raising=False)
    with pytest.raises(
        UserError, match=r"^torchcodec 9 cannot be loaded beside torch 2\..* or use the reader pyav$"
    ) as one:
        importlib.import_module("lavis.video.torchcodec")
    assert not isinstance(one.value, MissingExtraError)


@pytest.mark.parametrize(
    ("name", "num_frames", "width", "height"), [("bikes.mp4", 250, 640, 272), ("bigbuckbunny.mp4", 132, 1280, 720)]
)
def test_real_clips(name, num_frames, width, height):
    with open_video(real_clip(name)) as video:
        info = video.info
        assert (info.num_frames, info.width, info.height, info.fps) == (num_frames, width, height, 25)
        assert info.duration_s == pytest.approx(num_frames / 25)
        every = video.read(range(0, 100), size=56)
        few = video.read([0, 17, 50, 99], size=56)
        assert np.array_equal(every.frames[few.frame_idx], few.frames)
        assert video.warnings == ()


@needs_decord
@pytest.mark.parametrize("size", [224, 96, 448])
@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4"])
def test_pictures_are_those_of_the_published_reader(name, size):
    assert_equal_pictures(real_clip(name), uniform_indices(8, video_frames=132, fps=25), size=size)


@needs_decord
@pytest.mark.parametrize("size", [224, 96, 448, None])
@pytest.mark.parametrize(
    ("codec", "pixels", "width", "height", "suffix"),
    [
        ("libx264", "yuv420p", 322, 182, "mp4"),
        ("libx264", "yuvj420p", 320, 180, "mp4"),  # all 256 levels are used
        ("libx264", "yuv422p", 320, 180, "mkv"),
        ("libx264", "yuv444p", 161, 91, "mp4"),
        ("libx265", "yuv420p", 320, 180, "mp4"),
        ("mpeg4", "yuv420p", 176, 144, "mp4"),
        ("libvpx-vp9", "yuv420p", 320, 180, "mkv"),
        ("mjpeg", "yuvj420p", 64, 36, "mkv"),
    ],
)
def test_pictures_of_every_codec_are_those_of_the_published_reader(
    tmp_path, codec, pixels, width, height, suffix, size
):
    path = recoded(tmp_path / f"recoded.{suffix}", codec=codec, pixels=pixels, width=width, height=height)
    assert_equal_pictures(path, [0, 3, 7], size=size)


@needs_decord
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pictures_that_are_turned_are_those_of_the_published_reader(tmp_path, rotation):
    path = write_video(tmp_path / "turned.mp4", num_frames=8, rotation=rotation, width=162, height=90)
    for size in (224, None):
        assert_equal_pictures(path, [0, 3, 7], size=size)


def assert_equal_pictures(path, wanted, *, size):
    """Byte for byte: both make them with libswscale, which rounds in the same way on any one machine."""
    pictures = []
    for reader in ("pyav", "decord"):
        with open_video(path, reader=reader) as video:
            pictures.append(video.read(wanted, size=size).frames)
    assert np.array_equal(*pictures)


def recoded(path, *, codec, pixels, width, height, num_frames=8):
    """Encode the first frames of a real clip anew."""
    options = {"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}, "libx265": {"x265-params": "log-level=0"}}
    with av.open(str(real_clip("bikes.mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=25, options=options.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for frame in islice(source.decode(video=0), num_frames):
            target.mux(stream.encode(frame.reformat(width, height, format=pixels)))
        target.mux(stream.encode())
    return path


@needs_torchcodec
def test_torchcodec_gives_the_same_pictures_unscaled_and_nearly_the_same_scaled():
    pictures = {}
    for reader in ("pyav", "torchcodec"):
        with open_video(real_clip("bikes.mp4"), reader=reader) as video:
            pictures[reader] = video.read([0, 100], size=None), video.read([0, 100], size=224)
    unscaled, scaled = zip(*pictures.values(), strict=True)
    assert np.array_equal(unscaled[0].frames, unscaled[1].frames)
    assert np.abs(scaled[0].frames.astype(float) - scaled[1].frames).mean() < 1


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels", "options", "warnings"),
    [
        ("mov", "qtrle", "argb", {}, ("its pictures are transparent in places, and are read as if they were not",)),
        ("mov", "qtrle", "rgb24", {}, ()),
        (
            "mp4",
            "libx265",
            "yuv420p10le",
            {"x265-params": "log-level=0:transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"},
            ("its colours are of high dynamic range, and are read without adapting them",),
        ),
        ("mp4", "libx264", "yuv420p10le", {}, ()),
    ],
    ids=["transparent", "opaque", "high dynamic range", "ten bits"],
)
def test_what_eight_bits_of_rgb_do_not_show_is_said(tmp_path, suffix, codec, pixels, options, warnings):
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for number in range(3):
            picture = np.concatenate([numbered_picture(number, width=96, height=64), np.full((64, 96, 1), 100)], axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgba")))
        container.mux(stream.encode())
    with open_video(path) as video:
        assert shown_numbers(video.read(range(3), size=64).frames) == [0, 1, 2]
        assert video.warnings == warnings


@pytest.fixture
def frame_folder(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(12):  # unpadded, so that names and numbers sort differently
        Image.fromarray(numbered_picture(number, width=96, height=64)).save(folder / f"{number}.jpg", quality=95)
    (folder / "notes.txt").write_text("not a frame")
    return folder


def test_a_folder_of_frames_is_read_at_its_rate(frame_folder):
    with open_video(frame_folder, fps=3) as video:
        assert (video.info.num_frames, video.info.fps, video.info.duration_s) == (12, 3, 4)
        assert (video.info.width, video.info.height) == (96, 64)
        batch = video.read([0, 2, 9, 10, 11], size=64)
        assert shown_numbers(batch.frames) == [0, 2, 9, 10, 11]
        assert batch.times_s == pytest.approx([0, 2 / 3, 3, 10 / 3, 11 / 3])
        assert video.read([11]).frames.shape == (1, 64, 96, 3)


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan")])
def test_a_folder_of_frames_needs_a_rate(frame_folder, fps):
    with pytest.raises(ConfigError, match="needs its frames per second"):
        open_video(frame_folder, fps=fps)


def test_a_frame_that_is_not_an_image_is_named(frame_folder):
    (frame_folder / "7.jpg").write_text("not an image")
    with open_video(frame_folder, fps=3) as video, pytest.raises(VideoError, match=r"7\.jpg: not an image"):
        video.read(range(12), size=32)


def test_a_file_is_not_a_folder_of_frames(clip):
    with pytest.raises(VideoError, match="is not a folder of frames"):
        open_video(clip, reader="frames", fps=3)
