"""H.264 films to measure with: drifting cloudy pictures with grain and cuts, encoded as cameras and sites do."""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from lavis.common.files import written_whole

WIDTH, HEIGHT, FPS = 640, 360, 25
_KEYFRAME_EVERY = 250  # x264's default; seeking is as hard as in films people have
_SHOT_S = 4.0
_LOOP_S = 60  # longer films repeat the coded pictures of one of this length
_GRAIN = 6


def film(seconds: int) -> Path:
    """Return a film of this length, made anew only if the folder for temporary files does not hold it yet."""
    path = Path(tempfile.gettempdir()) / "sevila-benchmarks" / f"film-{seconds}s-{WIDTH}x{HEIGHT}.mp4"
    if not path.is_file():
        with written_whole(path) as temporary:
            if seconds <= _LOOP_S:
                encode_film(temporary, num_frames=seconds * FPS)
            else:
                repeat_film(film(_LOOP_S), temporary, times=-(-seconds // _LOOP_S))
    return path


def encode_film(path: Path, *, num_frames: int, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Encode a film with B-frames and keyframes far apart."""
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = _KEYFRAME_EVERY, 3
        for number, picture in enumerate(_pictures(num_frames, width, height)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = stream.codec_context.time_base = Fraction(1, FPS)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat_film(source: Path, path: Path, *, times: int) -> None:
    """Put a film's coded pictures into a new file, several times one after the other."""
    with av.open(str(source)) as film_in, av.open(str(path), "w") as film_out:
        stream_in = film_in.streams.video[0]
        stream_out = film_out.add_stream_from_template(stream_in)
        assert stream_in.time_base is not None
        assert stream_in.duration is not None
        for turn in range(times):
            film_in.seek(0)
            for packet in film_in.demux(stream_in):
                if packet.pts is None or packet.dts is None:  # the empty packet at the end
                    continue
                packet.pts += turn * stream_in.duration
                packet.dts += turn * stream_in.duration
                packet.stream = stream_out
                film_out.mux(packet)


def _pictures(num_frames: int, width: int, height: int) -> Iterator[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    clouds = np.zeros((0, 0, 3), np.int16)
    for number in range(num_frames):
        if number % round(_SHOT_S * FPS) == 0:
            clouds = _clouds(rng, 2 * width, 2 * height)
        left, top = number * 3 % width, number % height
        grain = rng.integers(-_GRAIN, _GRAIN + 1, (height, width, 1))
        yield np.clip(clouds[top : top + height, left : left + width] + grain, 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.int16]:
    """Draw smooth coloured shapes of several sizes, [height, width, 3]."""
    picture = np.zeros((height, width, 3))
    for cell, strength in ((160, 100), (40, 40), (10, 15)):
        coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2, 3))
        rows, columns = np.arange(height) / cell, np.arange(width) / cell
        picture += strength * _interpolated(_interpolated(coarse, rows).swapaxes(0, 1), columns).swapaxes(0, 1)
    return (picture + 128).astype(np.int16)


def _interpolated(values: npt.NDArray[np.float64], at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Interpolate linearly along the first axis."""
    below = at.astype(int)
    share = (at - below)[:, None, None]
    return (1 - share) * values[below] + share * values[below + 1]
