"""TorchCodec, PyTorch's video decoder (optional extra "torchcodec"; needs the system's FFmpeg)."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from av.video.frame import VideoFrame

from lavis.common.errors import MissingExtraError, UserError
from lavis.common.types import Integers, VideoInfo
from lavis.video.base import Picture, unreadable
from lavis.video.pyav import PictureMaker, PyAVSource

try:
    import torchcodec
    from torchcodec.decoders import VideoDecoder

    # torchcodec 0.17 does not raise before a video is opened.
    if getattr(torchcodec, "ffmpeg_major_version", "known") is None:
        raise OSError("its libraries were not loaded")
except ModuleNotFoundError as error:
    raise MissingExtraError("torchcodec", "torchcodec") from error
except (ImportError, OSError, RuntimeError) as error:
    raise UserError(
        f"torchcodec {version('torchcodec')} cannot be loaded beside torch {version('torch')}: it needs FFmpeg's "
        "shared libraries, and where torch is a CPU build a torchcodec before 0.14, or one from "
        "https://download.pytorch.org/whl/cpu; install these, or use the reader pyav"
    ) from error

_FRAMES_AT_ONCE = 8


class TorchCodecSource:
    """Pictures of a video file, decoded by TorchCodec; what the file is and its times come from PyAV.

    Pictures are scaled here, not by TorchCodec, whose filter is not the published one.

    Raises:
        VideoError: the file is not a video, or one that TorchCodec cannot read (truncated, or some streams).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        probe = PyAVSource(path)
        probe.close()
        self.info: VideoInfo = probe.info
        self.frame_times_s = probe.frame_times_s
        self.warnings: list[str] = probe.warnings
        if probe.index.open_groups:
            raise self._unsuited("fails on open groups of pictures")
        if probe.index.packet_pts is not None and probe.format_name != "avi":
            raise self._unsuited("needs timestamps that follow one another")
        try:
            self._decoder = VideoDecoder(
                str(path), stream_index=probe.stream_index, dimension_order="NHWC", num_ffmpeg_threads=0
            )
        except (RuntimeError, ValueError) as error:
            raise self._unsuited("cannot open it") from error
        # It turns by right angles, rounded, and mirrors nothing.
        self._left_to_turn = probe.upright.after(-90 * round((self._decoder.metadata.rotation or 0) / 90) % 360)
        num_frames = self._decoder.metadata.num_frames
        if num_frames != self.info.num_frames:
            raise self._unsuited(f"finds {num_frames} frames where {self.info.num_frames} are shown")

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`."""
        width, height = size or self.info.width, size or self.info.height
        make_picture = PictureMaker(width=width, height=height, upright=self._left_to_turn)
        for start in range(0, len(frame_idx), _FRAMES_AT_ONCE):
            some = frame_idx[start : start + _FRAMES_AT_ONCE].tolist()
            try:
                pictures = self._decoder.get_frames_at(some).data.numpy()
            except (RuntimeError, IndexError) as error:
                raise self._unsuited("cannot decode it") from error
            for index, picture in zip(some, pictures, strict=True):
                yield index, make_picture(VideoFrame.from_ndarray(picture, format="rgb24"))

    def close(self) -> None:
        """Nothing needs releasing: the decoder goes with this object."""

    def _unsuited(self, reason: str) -> Exception:
        return unreadable(self._path, f"torchcodec {reason}; use the reader pyav")
