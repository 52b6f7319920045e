"""Reading videos: `open_video`, and the readers that users choose by name."""

from lavis.common.registry import registry
from lavis.video.base import VideoReader, nearest_positions, open_video

__all__ = ["VideoReader", "nearest_positions", "open_video"]

registry.video_readers.declare("pyav", "lavis.video.pyav:PyAVSource")
registry.video_readers.declare("decord", "lavis.video.decord:DecordSource")
registry.video_readers.declare("torchcodec", "lavis.video.torchcodec:TorchCodecSource")
registry.video_readers.declare("frames", "lavis.video.frames:FrameFolderSource")
