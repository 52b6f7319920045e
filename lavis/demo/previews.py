"""Previews of files that a browser cannot play: some of the pictures at their times, as H.264 without sound.

Work is bounded by the pixels that have to be decoded, however long the file is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from lavis.common.errors import counted
from lavis.common.files import written_whole
from lavis.export.clips import encoded_pictures
from lavis.export.records import time_label
from lavis.video import open_video

_MAX_FRAMES = 300
_MAX_SIDE = 360
# Some ten seconds of a core: 80 s of a video of 1920 x 1080 pixels with 25 frames a second.
_MAX_PIXELS = 4_000_000_000


@dataclass(frozen=True)
class Preview:
    """What a preview shows: so many pictures, up to a time; None is to the end."""

    num_frames: int
    until_s: float | None

    def __str__(self) -> str:
        """Say it to the visitor."""
        part = "" if self.until_s is None else f" of its first {time_label(self.until_s, '.0f')}"
        shown = f"this preview has {counted(self.num_frames, 'picture')}{part}, without sound"
        return f"Your browser cannot play this format; {shown}. Questions are asked of the whole file."


def write_preview(
    source: Path, target: Path, *, step: Callable[[], None] = lambda: None, max_pixels: int = _MAX_PIXELS
) -> Preview:
    """Write a preview as MP4; `step` is called now and then, and may raise.

    Raises:
        VideoError: the video cannot be decoded.
    """
    with open_video(source) as video:
        info = video.info
        end = min(info.num_frames, max(1, max_pixels // (info.width * info.height)))
        frame_idx = np.unique(np.linspace(0, end - 1, min(_MAX_FRAMES, end)).astype(np.int64))
        with written_whole(target) as path, av.open(f"file:{path}", "w", format="mp4") as output:
            for packet in encoded_pictures(output, video, frame_idx, 0.0, max_side=_MAX_SIDE, step=step):
                output.mux(packet)
        until_s = None if end == info.num_frames else float(video.times_s([end])[0])
    return Preview(len(frame_idx), until_s)
