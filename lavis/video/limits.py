"""What a file may cost: memory per picture and per allocation, and decoding per frame."""

import ctypes
from functools import cache

import av.buffer
from av.video.format import VideoFormat

MAX_PIXELS = 4096 * 4096
"""Of a picture; 5.7K fits, 8K does not."""

_MAX_PICTURE_BYTES = 40_000_000  # twenty of them, as a decoder may have to keep, then fit into a gigabyte
_FEWEST_BYTES_PER_PIXEL = 1.5  # 4:2:0, as nearly all videos are stored
_MAX_ALLOCATION = 1 << 27  # the largest picture as RGB takes 50 MB, a photograph 72 MB
_THREADS_BYTES = 80_000_000
_MAX_THREADS = 4  # each holds decoded frames of its own; more gain little on short runs between seeks
_MAX_RUN_PIXELS = 6_000_000_000  # a minute and a half of 1080p without a keyframe; some seconds of work
_PIXELS_PER_PICTURE = 100_000  # what the smallest picture costs beside its pixels
_PIXELS_PER_PACKET = 10_000  # what reading it costs, decoded or not


class LimitError(ValueError):
    """A file that would cost more than it may."""


@cache
def limit_allocations() -> None:
    """Have FFmpeg refuse single allocations that no video needs, whatever a file declares.

    This holds for PyAV's FFmpeg in the whole process. Where it cannot be reached, its own limit of 2 GB stays.
    """
    try:
        # Not part of PyAV's interface; found in the library that every extension module of it is linked with.
        ctypes.CDLL(av.buffer.__file__).av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION))
    except (OSError, AttributeError):
        return


def check_picture(width: int, height: int, pixels: VideoFormat | None) -> None:
    """Refuse pictures that take too much memory to decode.

    Args:
        pixels: how they are stored, as far as it is known.

    Raises:
        LimitError: they are too large.
    """
    if width * height > MAX_PIXELS or _picture_bytes(width, height, pixels) > _MAX_PICTURE_BYTES:
        stored = f" ({pixels.name})" if pixels else ""
        raise LimitError(f"its pictures of {width} × {height} pixels{stored} are too large to decode; scale it down")


class RunBudget:
    """Counts what is decoded for a single frame, so that nothing is decoded on and on."""

    def __init__(self) -> None:
        self._num_pixels = 0

    def read_packet(self) -> None:
        """Count one more packet that was read from the file.

        Raises:
            LimitError: that is too many.
        """
        self._spend(_PIXELS_PER_PACKET)

    def decode_picture(self, width: int, height: int) -> None:
        """Count one more picture.

        Raises:
            LimitError: that is too many.
        """
        self._spend(max(width * height, _PIXELS_PER_PICTURE))

    def _spend(self, num_pixels: int) -> None:
        self._num_pixels += num_pixels
        if self._num_pixels > _MAX_RUN_PIXELS:
            raise LimitError(
                f"more than {_MAX_RUN_PIXELS // 10**9} billion pixels must be decoded for a single frame; "
                "encode it again, smaller or with more keyframes"
            )


def num_threads(width: int, height: int, pixels: VideoFormat | None, *, cores: int) -> int:
    """Return how many threads may decode pictures of this size."""
    fitting = _THREADS_BYTES // max(1, _picture_bytes(width, height, pixels))
    return max(1, min(_MAX_THREADS, cores, fitting))


def _picture_bytes(width: int, height: int, pixels: VideoFormat | None) -> int:
    per_pixel = max(_FEWEST_BYTES_PER_PIXEL, pixels.padded_bits_per_pixel / 8 if pixels else 0)
    return int(width * height * per_pixel)
