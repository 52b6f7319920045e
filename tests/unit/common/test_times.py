import math
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.common.times import parse_clip, parse_time, split_clip
from lavis.common.types import Span


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (30, 30.0),
        (np.float32(1.5), 1.5),
        ("30", 30.0),
        (" 30.5 s ", 30.5),
        ("-1", -1.0),
        ("1:30", 90.0),
        ("90:00", 5400.0),
        ("0:01.25", 1.25),
        ("1:02:03.5", 3723.5),
        ("00:01:02,500", 62.5),
        ("inf", math.inf),
    ],
)
def test_a_time_is_read_as_it_is_written(written: Any, seconds: float) -> None:
    assert parse_time(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "1:75", "1:60:00", "1:2:3:4", ":30", "1:", "1:-5", True, None])
def test_what_is_no_time_is_told_how_times_are_written(written: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_time(written)
    assert str(caught.value) == f"{written!r} is no time; give seconds, mm:ss or hh:mm:ss"


@pytest.mark.parametrize(
    "written",
    [Span(30.0, 35.0), (30, 35), [30.0, "0:35"], ("0:30", "0:35"), "30-35", "0:30-0:35", "0:30 - 35 s", "30 to 35"],
)
def test_a_clip_is_read_as_it_is_written(written: Any) -> None:
    assert parse_clip(written) == Span(30.0, 35.0)


@pytest.mark.parametrize("written", ["30", "30-", "a-b", (30,), (1, 2, 3), 30, {"start_s": 1}])
def test_what_is_no_clip_is_told_how_clips_are_written(written: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_clip(written)
    expected = f"{written!r} is no part of a video; give (start, end) or 'START-END', such as '0:30-0:35'"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("word", "words"),
    [("0:30-0:35", ["0:30", "0:35"]), ("-5-2", ["-5", "2"]), ("-5", ["-5"]), ("5e-1", ["5e-1"]), ("0:30", ["0:30"])],
)
def test_a_word_of_two_times_is_split(word: str, words: list[str]) -> None:
    assert split_clip(word) == words
