"""A folder with one image per frame, as TVQA ships its videos (3 frames per second)."""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from lavis.common.errors import ConfigError
from lavis.common.types import Integers, VideoInfo
from lavis.video.base import Picture, unreadable
from lavis.video.frame_names import order_frames
from lavis.video.picture import PictureMaker

# What the content may be, whatever the name says: other formats of Pillow run programs or read other files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
_MAX_PIXELS = 40_000_000  # as RGB they fit into the largest allocation that FFmpeg is allowed; see `limits`
_BITS_PER_SAMPLE = 258  # TIFF's tag
_ANIMATED = "pictures that are animated or have several pages, so that the first of each is used"
_CLEAR = "pictures that are partly transparent, so that they are shown on black, as players do"
_RESIZED = "pictures of another size than the first, so that they are scaled to it"


class FrameFolderSource:
    """Pictures of a folder of images, in the order of the numbers in their names; see `order_frames`.

    Where numbers are missing, times leave room for those frames. Pictures are turned upright by their EXIF orientation,
    16 bits a channel are scaled to 8, and what is transparent is shown on black.

    Args:
        path: the folder; files that are not images by their suffix are left out.
        fps: frames per second.

    Raises:
        VideoError: the folder is missing or holds no images, their order is not clear, or the first one cannot be read.
        ConfigError: `fps` is not given or not a positive number.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        if not path.is_dir():
            raise unreadable(path, "is not a folder of frames" if path.exists() else "no such folder")
        if fps is None or not (math.isfinite(fps) and fps > 0):
            raise ConfigError(f"{path}: a folder of frames needs its frames per second (fps), such as 3; got {fps}")
        order = order_frames((file.name for file in path.iterdir() if not file.is_dir()), place=str(path))
        self._files = [path / name for name in order.names]
        self._order_warnings = order.warnings
        self._remarks: dict[str, set[int]] = defaultdict(set)
        num_frames, num_places = len(self._files), int(order.places[-1]) + 1
        self.frame_times_s = order.places / fps
        height, width = self._load(0).shape[:2]
        self.info = VideoInfo(
            path=str(path),
            num_frames=num_frames,
            fps=fps * num_frames / num_places,
            duration_s=num_places / fps,
            width=width,
            height=height,
        )

    @property
    def warnings(self) -> list[str]:
        """What was passed over or changed, as far as it is known."""
        return [*self._order_warnings, *(f"{what}: {len(which)}" for what, which in self._remarks.items())]

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`. An image that cannot be read is an error, not replaced."""
        make_picture = PictureMaker(width=size or self.info.width, height=size or self.info.height)
        for index in frame_idx.tolist():
            picture = self._load(index)
            if picture.shape[:2] != (self.info.height, self.info.width):
                self._remarks[_RESIZED].add(index)
            yield index, make_picture(VideoFrame.from_ndarray(picture, format="rgb24"))

    def close(self) -> None:
        """Nothing is held open."""

    def _load(self, index: int) -> Picture:
        file = self._files[index]
        if file.exists() and not file.is_file():  # reading a pipe would wait for ever
            raise unreadable(file, "is not a regular file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, of pictures that are refused here or read all the same
                with Image.open(file, formats=_FORMATS) as image:
                    if image.width * image.height > _MAX_PIXELS:
                        raise ValueError(f"it has more than {_MAX_PIXELS} pixels; make it smaller")
                    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # its others are previews
                        self._remarks[_ANIMATED].add(index)
                    rgb, is_clear = _as_rgb(image)
        except UnidentifiedImageError as error:
            raise unreadable(file, "not an image") from error
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise unreadable(file, f"the image cannot be read ({error})") from error
        if is_clear:
            self._remarks[_CLEAR].add(index)
        return np.asarray(rgb)


def _as_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return an image upright, as 8-bit RGB on black, and whether a part of it was transparent."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # Pillow would clip at 255
        bits = image.tag_v2[_BITS_PER_SAMPLE][0] if isinstance(image, TiffImageFile) else 16
        upright = ImageOps.exif_transpose(image)
        return Image.fromarray((np.asarray(upright) >> (bits - 8)).astype(np.uint8)).convert("RGB"), False
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are of 32 bits, whose range is not known; save it with 8 or 16 bits")
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB"), False
    layer = upright.convert("RGBA")
    black = Image.new("RGBA", layer.size, "black")
    is_clear = layer.getchannel("A").point(lambda alpha: alpha < 255).getbbox() is not None
    return Image.alpha_composite(black, layer).convert("RGB"), is_clear
