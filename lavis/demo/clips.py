"""Cutting a moment out of a video, as a file that every browser plays."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lavis.common.errors import VideoError
from lavis.common.files import written_whole
from lavis.video import VideoReader, open_video

_MAX_SIDE = 720
_READ_AT_ONCE = 4
_CLOCK = Fraction(1, 90_000)


def cut_clip(
    source: Path, target: Path, *, start_s: float, end_s: float, step: Callable[[], None] = lambda: None
) -> None:
    """Write the pictures of a video between two times as MP4 (H.264), without sound, which the model does not hear.

    Args:
        step: called now and then; may raise to end the work.

    Raises:
        VideoError: there is nothing between the two times, or it cannot be decoded.
    """
    with open_video(source) as video:
        times_s = video.times_s(np.arange(video.info.num_frames))
        frame_idx = np.flatnonzero((times_s >= start_s) & (times_s < end_s))
        if not len(frame_idx):
            raise VideoError(f"{source}: no frame lies between {start_s:.1f} and {end_s:.1f} s")
        with written_whole(target) as path, av.open(f"file:{path}", "w", format="mp4") as output:
            stream = output.add_stream("libx264", rate=_rate(video), options={"preset": "veryfast", "crf": "21"})
            stream.width, stream.height = _fitting(video.info.width, video.info.height)
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _CLOCK
            for batch in video.stream(frame_idx, chunk=_READ_AT_ONCE):
                step()
                for picture, time_s in zip(batch.frames, batch.times_s, strict=True):
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame = frame.reformat(stream.width, stream.height, format="yuv420p")
                    frame.pts, frame.time_base = round(float(time_s - start_s) / _CLOCK), _CLOCK
                    output.mux(stream.encode(frame))
            output.mux(stream.encode())


def _rate(video: VideoReader) -> Fraction:
    return Fraction(video.info.fps).limit_denominator(1001)


def _fitting(width: int, height: int) -> tuple[int, int]:
    """Return even sides with about the same ratio, the shorter one at most `_MAX_SIDE`."""
    scale = min(1.0, _MAX_SIDE / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
