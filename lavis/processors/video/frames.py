"""A folder with one image per frame, as TVQA ships its videos (3 frames per second)."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageOps, UnidentifiedImageError

from lavis.common.errors import ConfigError
from lavis.common.types import Integers, VideoInfo
from lavis.processors.video.base import Picture, unreadable
from lavis.processors.video.picture import PictureMaker

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


class FrameFolderSource:
    """Pictures of a folder of images, in the order of the numbers in their names.

    Args:
        path: the folder; files that are not images by their suffix are left out.
        fps: frames per second.

    Raises:
        VideoError: the folder is missing or holds no images, or the first one cannot be read.
        ConfigError: `fps` is not given or not a positive number.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        if not path.is_dir():
            raise unreadable(path, "is not a folder of frames" if path.exists() else "no such folder")
        if fps is None or not (math.isfinite(fps) and fps > 0):
            raise ConfigError(f"{path}: a folder of frames needs its frames per second (fps), such as 3; got {fps}")
        self._files = sorted((file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES), key=_by_number)
        if not self._files:
            raise unreadable(path, f"holds no images ({', '.join(sorted(_SUFFIXES))})")
        height, width = _load(self._files[0]).shape[:2]
        num_frames = len(self._files)
        self.frame_times_s = np.arange(num_frames) / fps
        self.info = VideoInfo(
            path=str(path), num_frames=num_frames, fps=fps, duration_s=num_frames / fps, width=width, height=height
        )
        self.warnings: list[str] = []

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`. An image that cannot be read is an error, not replaced."""
        make_picture = PictureMaker(width=size or self.info.width, height=size or self.info.height)
        for index in frame_idx.tolist():
            yield index, make_picture(VideoFrame.from_ndarray(_load(self._files[index]), format="rgb24"))

    def close(self) -> None:
        """Nothing is held open."""


def _by_number(file: Path) -> tuple[list[int], str]:
    # Numbers as numbers: frame 10 comes after frame 9 even where names are not padded.
    return [int(digits) for digits in re.findall(r"[0-9]+", file.stem)], file.name


def _load(file: Path) -> Picture:
    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise unreadable(file, "not an image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(file, f"the image cannot be read ({error})") from error
