"""Pictures that a program holds already, read as a video: PIL pictures, NumPy arrays, torch tensors."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from PIL import Image

from lavis.common.errors import ConfigError, VideoError, counted
from lavis.common.types import Floats, Integers, VideoInfo
from lavis.video.base import Picture, is_array
from lavis.video.frames import MAX_PICTURE_PIXELS, RESIZED, as_rgb
from lavis.video.pyav import PictureMaker

_CHANNELS = 3


class MemorySource:
    """Pictures in memory as frames; a picture of another size than the first is scaled to it.

    Args:
        pictures: PIL pictures or arrays [H, W, 3], in order; or one array [T, H, W, 3] or [T, 3, H, W] (where both fit,
            the former). Arrays hold 0 to 255 as whole numbers, or 0 to 1 as floating-point numbers. They are not
            copied, so what is changed in them later is read as changed.
        fps: frames per second, where times are not given.
        times_s: [T], when each is shown, in seconds, increasing from 0 or later.

    Raises:
        VideoError: no pictures, or an array of another shape or with other values.
        ConfigError: neither fps nor times, both, or times that cannot be.
    """

    def __init__(
        self, pictures: Any, *, fps: float | None = None, times_s: Sequence[float] | Floats | None = None
    ) -> None:
        self._pictures = _checked(pictures)
        self.frame_times_s, duration_s = _times(len(self._pictures), fps=fps, times_s=times_s)
        self.warnings: list[str] = []
        height, width = self._load(0).shape[:2]
        count = len(self._pictures)
        self.info = VideoInfo(
            path=f"{counted(count, 'picture')} in memory",
            num_frames=count,
            fps=count / (duration_s - float(self.frame_times_s[0])),
            duration_s=duration_s,
            width=width,
            height=height,
        )

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`."""
        make_picture = PictureMaker(width=size or self.info.width, height=size or self.info.height)
        for index in frame_idx.tolist():
            picture = self._load(index)
            if picture.shape[:2] != (self.info.height, self.info.width) and RESIZED not in self.warnings:
                self.warnings.append(RESIZED)
            yield index, make_picture(VideoFrame.from_ndarray(picture, format="rgb24"))

    def close(self) -> None:
        """Nothing is held open."""

    def digest(self) -> str:
        """Return the SHA-256 of all pictures and their times."""
        digest = hashlib.sha256(self.frame_times_s.tobytes())
        for index in range(len(self._pictures)):
            picture = self._load(index)
            digest.update(f"{picture.shape}".encode() + picture.tobytes())
        return digest.hexdigest()

    def _load(self, index: int) -> Picture:
        picture = self._pictures[index]
        if isinstance(picture, Image.Image):
            if picture.width * picture.height > MAX_PICTURE_PIXELS:
                raise VideoError(f"picture {index} has more than {MAX_PICTURE_PIXELS} pixels; make it smaller")
            try:
                return np.asarray(as_rgb(picture)[0])
            except (OSError, ValueError, SyntaxError) as error:
                raise VideoError(f"picture {index} cannot be read ({error})") from error
        if picture.dtype != np.uint8:
            picture = (picture * (255 if np.issubdtype(picture.dtype, np.floating) else 1)).round().astype(np.uint8)
        return np.ascontiguousarray(picture)


def _checked(pictures: Any) -> Sequence[Any]:
    """Return pictures one by one: PIL pictures, or arrays [H, W, 3] of values that were looked at."""
    if is_array(pictures) and not isinstance(pictures, Image.Image):
        return list(_channels_last(_array(pictures)))
    if not len(pictures):
        raise VideoError("the list of pictures is empty; give at least one")
    return [
        one if isinstance(one, Image.Image) else _channels_last(_array(one)[None], what=f"picture {number}")[0]
        for number, one in enumerate(pictures)
    ]


def _array(value: Any) -> npt.NDArray[Any]:
    if not hasattr(value, "requires_grad"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    # NumPy has no bfloat16.
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _channels_last(array: npt.NDArray[Any], *, what: str = "the array") -> npt.NDArray[Any]:
    shape = list(array.shape)
    if array.ndim != 4 or _CHANNELS not in (shape[-1], shape[1]) or 0 in shape:
        known = "[T, H, W, 3] or [T, 3, H, W]" if what == "the array" else "[H, W, 3] or [3, H, W]"
        raise VideoError(f"{what} has the shape {shape if what == 'the array' else shape[1:]}; give {known}")
    is_float = np.issubdtype(array.dtype, np.floating)
    if not (is_float or np.issubdtype(array.dtype, np.integer)):
        raise VideoError(f"{what} holds {array.dtype} values; give whole numbers to 255, or fractions from 0 to 1")
    if array.dtype != np.uint8:
        low, high, most = array.min(), array.max(), 1 if is_float else 255
        if not (low >= 0 and high <= most):
            raise VideoError(
                f"{what} holds {array.dtype} values from {low:g} to {high:g}; give whole numbers to 255, "
                "or fractions from 0 to 1"
            )
    array = array if shape[-1] == _CHANNELS else np.moveaxis(array, 1, -1)
    if array.shape[1] * array.shape[2] > MAX_PICTURE_PIXELS:
        raise VideoError(f"{what} has pictures of more than {MAX_PICTURE_PIXELS} pixels; make them smaller")
    return array


def _times(count: int, *, fps: float | None, times_s: Sequence[float] | Floats | None) -> tuple[Floats, float]:
    """Return the times of pictures, and when the last one ends."""
    if (fps is None) == (times_s is None):
        raise ConfigError("pictures in memory need fps=, their frames per second, or times_s=, the time of each")
    if fps is not None:
        if not (math.isfinite(fps) and fps > 0):
            raise ConfigError(f"fps is {fps!r}; give a number above 0")
        return np.arange(count) / fps, count / fps
    times = _array(times_s).astype(np.float64)
    if times.shape != (count,):
        raise ConfigError(f"times_s has the shape {list(times.shape)}; give {counted(count, 'time')}, one per picture")
    if not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
        raise ConfigError("times_s must be numbers that increase from 0 or later")
    step_s = float(times[-1] - times[0]) / (count - 1) if count > 1 else 1.0
    return times, float(times[-1]) + step_s
