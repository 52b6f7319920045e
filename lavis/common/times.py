"""Times and parts of videos as people write them: seconds, "1:30", "0:30-0:35"."""

import re
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, TypeAlias, Union

from lavis.common.errors import ConfigError

if TYPE_CHECKING:
    from lavis.common.types import Span

TimeLike: TypeAlias = float | str
ClipLike: TypeAlias = Union["Span", Sequence[TimeLike], str]

_BETWEEN = re.compile(r"\s*([\d:.]+\s*s?)\s*(?:-|\u2013|to)\s*([\d:.]+\s*s?)\s*")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)")  # subtitles have a comma
_DASH = re.compile(r"(?<=.)[-\u2013](?=.)")
_WAYS = "give seconds, mm:ss or hh:mm:ss"


def parse_time(value: TimeLike) -> float:
    """Return a time in seconds: of a number, of "90", "90.5 s", "1:30" or "1:02:03.5".

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        if clock := _CLOCK.fullmatch(value.strip()):
            hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3].replace(",", "."))
            if seconds < 60 and (minutes < 60 or clock[1] is None):
                return hours * 3600 + minutes * 60 + seconds
        else:
            try:
                return float(value.strip().removesuffix("s"))
            except ValueError:
                pass
    raise ConfigError(f"{value!r} is no time; {_WAYS}")


def split_clip(text: str) -> list[str]:
    """Return the words for start and end where a text holds both, else the text alone; a number such as 5e-1 is one."""
    try:
        float(text)
    except ValueError:
        return _DASH.split(text, maxsplit=1)
    return [text]


def parse_clip(value: ClipLike) -> "Span":
    """Return a part of a video: of a `Span`, of a start and an end as in `parse_time`, or of "0:30-0:35".

    Raises:
        ConfigError: it is none of these.
    """
    from lavis.common.types import Span  # with NumPy, which help does without

    if isinstance(value, Span):
        return value
    ends: Sequence[TimeLike] = ()
    if not isinstance(value, str):
        ends = value if isinstance(value, Sequence) else ()
    elif found := _BETWEEN.fullmatch(value):
        ends = found.groups()
    if len(ends) != 2:
        raise ConfigError(f"{value!r} is no part of a video; give (start, end) or 'START-END', such as '0:30-0:35'")
    return Span(parse_time(ends[0]), parse_time(ends[1]))
