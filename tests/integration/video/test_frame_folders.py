"""Pictures of every kind in a folder of frames come out as people see them, or are refused in a line."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from lavis.common.errors import VideoError
from lavis.datasets.records import Record
from lavis.datasets.shards import ShardedVideos, write_shards
from lavis.datasets.videos import VideoFolders
from lavis.video import open_video
from tests.videos import numbered_picture, shown_numbers

GREY = numbered_picture(5, width=96, height=64)[..., 0]  # of 32 and 224
DEEP = GREY.astype(np.uint16) * 257


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    return path


# What orientations 1 to 8 undo.
_UNDONE_BY = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def first_frame(folder):
    with open_video(folder, fps=3) as video:
        return video.read([0]).frames[0], video.warnings


def deep_png(path, samples, colour_type):
    """Write 16-bit samples [H, W, channels], which Pillow does for grey only."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize(
    "kind", ["grey png", "colour png", "grey and alpha png", "little tiff", "big tiff", "packed tiff"]
)
def test_sixteen_bits_are_scaled_to_eight(folder, kind):
    if kind == "colour png":
        deep_png(folder / "0.png", np.stack([DEEP] * 3, axis=-1), 2)
    elif kind == "grey and alpha png":
        deep_png(folder / "0.png", np.stack([DEEP, np.full_like(DEEP, 65535)], axis=-1), 4)
    elif kind == "grey png":
        deep_png(folder / "0.png", DEEP, 0)
    else:
        mode, dtype = ("I;16B", ">u2") if kind == "big tiff" else ("I;16", "<u2")
        stored = Image.frombytes(mode, (96, 64), DEEP.astype(dtype).tobytes())
        stored.save(folder / "0.tif", compression="tiff_lzw" if kind == "packed tiff" else None)
    frame, said = first_frame(folder)
    assert np.array_equal(frame, np.stack([GREY] * 3, axis=-1))
    assert said == ()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_refused(folder, dtype):
    Image.fromarray(DEEP.astype(dtype)).save(folder / "0.tiff")
    with pytest.raises(VideoError, match=r"0\.tiff: .* of 32 bits, whose range is not known; save it with"):
        first_frame(folder)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_usual_kind_of_pixels_shows_the_same_picture(folder, mode):
    picture = Image.fromarray(np.stack([GREY] * 3, axis=-1)).convert(
        mode, dither=Image.Dither.NONE, palette=Image.Palette.ADAPTIVE
    )
    picture.save(folder / ("0.jpg" if mode in ("CMYK", "YCbCr") else "0.png"))
    frame, said = first_frame(folder)
    assert shown_numbers(frame[None]) == [5]
    light = 255 if mode == "1" else 224
    assert abs(int(frame.max()) - light) <= 3
    assert said == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_what_is_transparent_is_shown_on_black_and_counted(folder, mode):
    hidden = np.zeros((64, 96), np.uint8)
    hidden[:, 48:] = 255
    if mode in ("RGBA", "LA"):
        white = Image.new(mode, (96, 64), "white")
        white.putalpha(Image.fromarray(255 - hidden))
        white.save(folder / "0.png")
    elif mode == "P":
        palette = Image.fromarray(hidden // 255, "P")
        palette.putpalette([255, 255, 255, 250, 0, 0])
        palette.save(folder / "0.png", transparency=1)
    else:
        Image.fromarray(255 - hidden // 255).save(folder / "0.png", transparency=254)
    Image.new("RGB", (96, 64)).save(folder / "1.png")
    with open_video(folder, fps=3) as video:
        frame = video.read([0, 1]).frames[0]
        assert video.warnings == (
            "pictures that are partly transparent, so that they are shown on black, as players do: 1",
        )
    assert (frame[:, :48] == 255).all()
    assert (frame[:, 48:] == 0).all()


def test_half_transparent_is_half_as_bright(folder):
    Image.new("RGBA", (8, 8), (200, 100, 0, 128)).save(folder / "0.png")
    frame, _ = first_frame(folder)
    assert frame[0, 0].tolist() == [100, 50, 0]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_and_mirrored_as_their_exif_orientation_says(folder, ending, orientation):
    upright = Image.fromarray(numbered_picture(5, width=96, height=64))
    undo = _UNDONE_BY[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(folder / f"0.{ending}", exif=exif, **({"lossless": True} if ending == "webp" else {}))
    with open_video(folder, fps=3) as video:
        assert (video.info.width, video.info.height) == (96, 64)
        assert shown_numbers(video.read([0]).frames) == [5]


def test_a_deep_picture_is_turned_too(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(DEEP))).save(folder / "0.png", exif=exif)
    frame, _ = first_frame(folder)
    assert np.array_equal(frame[..., 0], GREY)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_of_an_animated_picture_the_first_is_used_and_it_is_counted(folder, ending):
    pictures = [Image.fromarray(numbered_picture(number, width=96, height=64)) for number in (5, 6, 7)]
    pictures[0].save(folder / f"0.{ending}", save_all=True, append_images=pictures[1:])
    with open_video(folder, fps=3) as video:
        for _ in range(2):
            assert shown_numbers(video.read([0]).frames) == [5]
        assert video.warnings == (
            "pictures that are animated or have several pages, so that the first of each is used: 1",
        )


def test_pictures_of_other_sizes_are_scaled_to_the_first_and_counted(folder):
    for number, (width, height) in enumerate([(96, 64), (48, 32), (96, 64), (64, 96)]):
        Image.fromarray(numbered_picture(number, width=width, height=height)).save(folder / f"{number}.png")
    with open_video(folder, fps=3) as video:
        assert shown_numbers(video.read(range(4)).frames) == [0, 1, 2, 3]
        assert video.warnings == ("pictures of another size than the first, so that they are scaled to it: 2",)


def test_a_picture_that_is_too_large_is_refused_without_a_warning_of_pillow(folder):
    Image.new("1", (12_000, 8_000)).save(folder / "0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(VideoError, match=r"0\.png: the image cannot be read \(it has more than 40000000 pixels"):
            first_frame(folder)


def test_a_file_that_runs_programs_when_opened_is_no_image(folder):
    (folder / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(VideoError, match=r"0\.png: not an image"):
        first_frame(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_what_is_no_file_is_refused_or_passed_by(folder):
    Image.new("RGB", (8, 8)).save(folder / "0.png")
    (folder / "1.png").mkdir()
    with open_video(folder, fps=3) as video:
        assert video.info.num_frames == 1
    os.mkfifo(folder / "2.png")
    with open_video(folder, fps=3) as video, pytest.raises(VideoError, match=r"2\.png: is not a regular file"):
        video.read([0, 1])


def test_times_leave_room_for_missing_frames_and_shards_keep_it(folder, tmp_path):
    for number in (4, 5, 8, 9):
        Image.fromarray(numbered_picture(number, width=96, height=64)).save(folder / f"{number}.png")
    (folder / "._5.png").write_bytes(b"resource fork")
    (folder / "5.jpg").write_bytes(b"left over")
    row = {"video": "frames", "qid": "T_0", "question": "Which?", "a0": "one", "a1": "two", "answer": 0, "type": "T"}
    videos = VideoFolders.from_storage(str(tmp_path), place="here")
    write_shards(tmp_path / "shards", {"val": [Record(row, tmp_path / "val.json", 1)]}, videos)
    shards = ShardedVideos(tmp_path / "shards")
    for place in (folder, shards.find("frames")):
        with open_video(place, fps=3) as video:
            assert (video.info.num_frames, video.info.duration_s, video.info.fps) == (4, 2, 2)
            batch = video.read(range(4))
            assert shown_numbers(batch.frames) == [4, 5, 8, 9]
            assert batch.times_s == pytest.approx([0, 1 / 3, 4 / 3, 5 / 3])
            assert "frames whose numbers are missing, so that times leave room for them: 2" in video.warnings
