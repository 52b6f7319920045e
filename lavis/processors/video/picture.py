"""From a decoded frame to the pixels a model sees."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from lavis.processors.video.base import Picture


class PictureMaker:
    """Scales with libswscale's bilinear filter, as the published reader does, and turns pictures upright.

    Args:
        width: of the upright pictures.
        height: of the upright pictures.
        rotation: degrees clockwise to turn decoded frames: 0, 90, 180 or 270.
    """

    def __init__(self, *, width: int, height: int, rotation: int = 0) -> None:
        self._size = (height, width) if rotation % 180 else (width, height)
        self._quarter_turns = rotation // 90
        # Kept, since it holds the prepared filter; FFmpeg prepares anew when a frame's size or format changes.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Picture:
        """Return uint8 [height, width, 3], RGB."""
        width, height = self._size
        scaled = self._reformatter.reformat(
            frame, width, height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        return np.rot90(scaled.to_ndarray(), k=-self._quarter_turns)
