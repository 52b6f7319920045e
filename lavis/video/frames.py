"""A folder with one image per frame, as TVQA ships its videos (3 frames per second).

The file names say which files are frames and in which order: by the numbers in them.
"""

import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path, PurePath
from statistics import median_low

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from lavis.common.errors import ConfigError, VideoError, counted
from lavis.common.types import Integers, VideoInfo
from lavis.video.base import Picture, unreadable
from lavis.video.pyav import PictureMaker

PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_ENDINGS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts", ".gif"),
    *(".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".ogg", ".mts", ".m2ts", ".vob", ".f4v", ".mj2", ".divx", ".ivf"),
)
_OTHER_PICTURES = frozenset({".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".tga", ".exr", ".dng"})
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_DIGITS = re.compile(r"[0-9]+")
_NEAR_WHOLE = 0.25  # numbers that are time stamps are not spaced exactly
# Formats that are read, whatever a file's name says; some others of Pillow run programs or read further files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
MAX_PICTURE_PIXELS = 40_000_000  # as RGB they fit into the largest allocation that FFmpeg is allowed; see `limits`
_BITS_PER_SAMPLE = 258  # TIFF's tag
_ANIMATED = "pictures that are animated or have several pages, so that the first of each is used"
_CLEAR = "pictures that are partly transparent, so that they are shown on black, as players do"
RESIZED = "pictures of another size than the first, so that they are scaled to it"


@dataclass(frozen=True)
class FrameOrder:
    """The frames of a folder.

    Attributes:
        names: [T] files, in time order.
        places: [T], where each stands in the series: 0, 1, 2, ..., leaving out numbers that are missing.
        warnings: what was passed over, and what is missing.
    """

    names: list[str]
    places: Integers
    warnings: list[str]


@dataclass(frozen=True)
class _Frame:
    """A file, the numbers in its name, and the name with "#" for each of them."""

    name: str
    numbers: tuple[Decimal, ...]
    pattern: str

    @property
    def identity(self) -> object:
        """What is the same for two pictures of one frame."""
        return self.numbers or self.pattern


def order_frames(names: Iterable[str], *, place: str) -> FrameOrder:
    """Put the frames among a folder's files in the order of the numbers in their names; `place` is the folder.

    Hidden files (which macOS puts beside others as "._NAME") are no frames. Two pictures of one number, such as "1.jpg"
    and "0001.png", are one frame: the one named like most others is taken. "0.25" is a number where numbers are written
    so, and "shot1.10" of a series from "shot1.1" on is two.

    Raises:
        VideoError: no picture, or names of several series, whose order cannot be told.
    """
    visible = [name for name in names if not PurePath(name).name.startswith(".")]
    pictures = [name for name in visible if _ending(name) in PICTURE_ENDINGS]
    if not pictures:
        raise VideoError(f"{place}: holds no images ({', '.join(sorted(PICTURE_ENDINGS))})")
    others = [name for name in visible if _ending(name) in _OTHER_PICTURES]
    frames = _parsed(pictures)
    numbered = [frame for frame in frames if frame.numbers]
    unnumbered = [frame.name for frame in frames if not frame.numbers] if numbered else []
    by_identity: dict[object, list[_Frame]] = defaultdict(list)
    for frame in numbered or frames:
        by_identity[frame.identity].append(frame)
    _check_one_series(by_identity.values(), place)
    usual = Counter((_ending(name), len(name)) for name in pictures)
    endings = Counter(map(_ending, pictures))

    def rank(frame: _Frame) -> tuple[int, int, str]:
        ending = _ending(frame.name)
        return -endings[ending], -usual[ending, len(frame.name)], frame.name

    chosen = [min(same, key=rank) for same in by_identity.values()]
    chosen.sort(key=lambda frame: (frame.numbers, frame.pattern, frame.name))
    taken = {frame.name for frame in chosen}
    doubled = [frame.name for frame in numbered or frames if frame.name not in taken]
    places, about_numbers = _places(chosen)
    warnings = [
        *_passed_over("pictures passed over, since another one has their number", doubled),
        *_passed_over("pictures passed over, since they have no number as the others do", unnumbered),
        *_passed_over("pictures passed over, since they are of kinds that are not read", others),
        *about_numbers,
    ]
    return FrameOrder([frame.name for frame in chosen], places, warnings)


def _check_holds_frames(names: Sequence[str], path: Path) -> None:
    """Tell a folder of videos from one of frames."""
    visible = sorted(name for name in names if not name.startswith("."))
    videos = [name for name in visible if _ending(name) in VIDEO_ENDINGS]
    if videos and not any(_ending(name) in PICTURE_ENDINGS for name in visible):
        raise unreadable(
            path,
            f"is a folder of {counted(len(videos), 'video')}, such as {videos[0]!r}, not of frames; name one of them, "
            "or ask all with `sevila answer FOLDER QUESTION` or model.ask_videos",
        )


def _ending(name: str) -> str:
    return PurePath(name).suffix.lower()


def _parsed(names: Sequence[str]) -> list[_Frame]:
    stems = [name[: -len(_ending(name))].casefold() for name in names]
    fractions = [number.split(".")[1] for stem in stems for number in _DOTTED.findall(stem) if number.count(".") == 1]
    # Programs that write decimals pad all of them to one width, or none (0.5, but never 0.10 beside it).
    are_decimals = len({len(digits) for digits in fractions}) == 1 or not any(
        digits.endswith("0") and digits != "0" for digits in fractions
    )
    decimal = re.compile(r"(?<![0-9.])[0-9]+\.[0-9]+(?!\.?[0-9])|[0-9]+") if are_decimals else _DIGITS
    return [
        _Frame(name, tuple(map(Decimal, decimal.findall(stem))), decimal.sub("#", stem))
        for name, stem in zip(names, stems, strict=True)
    ]


def _check_one_series(groups: Iterable[list[_Frame]], place: str) -> None:
    """Refuse names that do not say one order: a number twice under different names, or not as many in each."""
    first: _Frame | None = None
    for group in groups:
        first = first or group[0]
        for frame in group:
            if len(frame.numbers) != len(first.numbers) or frame.pattern != group[0].pattern:
                other = group[0] if frame.pattern != group[0].pattern else first
                raise VideoError(
                    f"{place}: the order of its pictures is not clear from names such as {other.name!r} and "
                    f"{frame.name!r}; keep one series of pictures to a folder"
                )


def _places(frames: Sequence[_Frame]) -> tuple[Integers, list[str]]:
    """Return where frames stand in their series, and what is to be said of it."""
    counted = np.arange(len(frames))
    if len({frame.numbers[:-1] for frame in frames}) > 1 or len(frames) < 3 or not frames[0].numbers:
        return counted, []
    numbers = [frame.numbers[-1] for frame in frames]
    steps = np.array([float(after - before) for before, after in pairwise(numbers)])
    steps /= median_low(steps)
    whole = np.round(steps).astype(np.int64)
    if (whole < 1).any() or (np.abs(steps - whole) > _NEAR_WHOLE).any():
        return counted, ["the numbers of the frames are irregular, so that times are counted from their order"]
    places = np.concatenate([[0], np.cumsum(whole)])
    missing = int(places[-1]) + 1 - len(frames)
    return places, [
        f"frames whose numbers are missing, so that times leave room for them: {missing}"
    ] if missing else []


def _passed_over(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what}: {len(names)}, such as {min(names)!r}"] if names else []


class FrameFolderSource:
    """Pictures of a folder of images, in the order of the numbers in their names; see `order_frames`.

    Where numbers are missing, times leave room for those frames. Pictures are turned upright by their EXIF orientation,
    16 bits a channel are scaled to 8, and what is transparent is shown on black.

    Raises:
        VideoError: the folder is missing or holds no images, their order is not clear, or the first one cannot be read.
        ConfigError: `fps` is not given or not a positive number.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        if not path.is_dir():
            raise unreadable(path, "is not a folder of frames" if path.exists() else "no such folder")
        names = [file.name for file in path.iterdir() if not file.is_dir()]
        _check_holds_frames(names, path)
        if fps is None or not (math.isfinite(fps) and fps > 0):
            raise ConfigError(f"{path}: a folder of frames needs its frames per second (fps), such as 3; got {fps}")
        order = order_frames(names, place=str(path))
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
                self._remarks[RESIZED].add(index)
            yield index, make_picture(VideoFrame.from_ndarray(picture, format="rgb24"))

    def close(self) -> None:
        """Nothing is held open."""

    def _load(self, index: int) -> Picture:
        file = self._files[index]
        if file.exists() and not file.is_file():  # reading a pipe would wait for ever
            raise unreadable(file, "is not a regular file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pictures that are refused below, or read well
                with Image.open(file, formats=_FORMATS) as image:
                    if image.width * image.height > MAX_PICTURE_PIXELS:
                        raise ValueError(f"it has more than {MAX_PICTURE_PIXELS} pixels; make it smaller")
                    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # its others are previews
                        self._remarks[_ANIMATED].add(index)
                    rgb, is_clear = as_rgb(image)
        except UnidentifiedImageError as error:
            raise unreadable(file, "not an image") from error
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise unreadable(file, f"the image cannot be read ({error})") from error
        if is_clear:
            self._remarks[_CLEAR].add(index)
        return np.asarray(rgb)


def as_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
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
