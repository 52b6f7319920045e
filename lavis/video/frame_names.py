"""Which files of a folder are the frames of a video, and in which order: their names say it, as numbers."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import PurePath
from statistics import median_low

import numpy as np

from lavis.common.errors import VideoError
from lavis.common.types import Integers

PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_OTHER_PICTURES = frozenset({".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".tga", ".exr", ".dng"})
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_DIGITS = re.compile(r"[0-9]+")
_NEAR_WHOLE = 0.25  # numbers that are time stamps are not spaced exactly


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
    """Put the frames among a folder's files in the order of the numbers in their names.

    Hidden files (which macOS puts beside others as "._NAME") are no frames. Two pictures of one number, such as "1.jpg"
    and "0001.png", are one frame: the one named like most others is taken. "0.25" is a number where numbers are written
    so, and "shot1.10" of a series from "shot1.1" on is two.

    Args:
        place: the folder, for messages.

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


def _ending(name: str) -> str:
    return PurePath(name).suffix.lower()


def _parsed(names: Sequence[str]) -> list[_Frame]:
    stems = [name[: -len(_ending(name))].casefold() for name in names]
    fractions = [number.split(".")[1] for stem in stems for number in _DOTTED.findall(stem) if number.count(".") == 1]
    # Whoever writes decimals pads all to one width, or none of them: 0.5, but not 0.10 beside it.
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
