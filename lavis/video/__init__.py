"""Reading videos: `open_video`, and the readers that users choose by name."""

from pathlib import Path

from lavis.common import defaults
from lavis.common.registry import registry
from lavis.video.base import VideoReader, unreadable

__all__ = ["VideoReader", "open_video"]

registry.video_readers.declare("pyav", "lavis.video.pyav:PyAVSource")
registry.video_readers.declare("decord", "lavis.video.decord:DecordSource")
registry.video_readers.declare("torchcodec", "lavis.video.torchcodec:TorchCodecSource")
registry.video_readers.declare("frames", "lavis.video.frames:FrameFolderSource")


def open_video(path: str | Path, *, reader: str = defaults.VIDEO_READER, fps: float | None = None) -> VideoReader:
    """Open a video file, or a folder of frames.

    Args:
        path: a video file, or a folder with one image per frame, which is always read by "frames".
        reader: a name in `registry.video_readers`.
        fps: frames per second of a folder of frames; files know their own.

    Raises:
        VideoError: there is no video at `path`, or it cannot be read; the message names path and reason.
        ConfigError: no reader has this name.
        MissingExtraError: the reader's package is not installed.
    """
    path = Path(path)
    chosen = "frames" if path.is_dir() else reader
    source = registry.video_readers.get(chosen)
    if chosen == "frames":
        return VideoReader(source(path, fps=fps))
    if not path.is_file():
        raise unreadable(path, "is not a regular file" if path.exists() else "no such file")
    if path.stat().st_size == 0:
        raise unreadable(path, "the file is empty")
    return VideoReader(source(path))
