"""Names of files, and marks of axes."""

import pytest

from lavis.export.axes import time_label, time_ticks, value_ticks
from lavis.export.names import keyframe_name, slug


@pytest.mark.parametrize(
    ("time_s", "name"),
    [
        (5.27, "keyframe_1_00m05.27s_frame79.jpg"),
        (0.0, "keyframe_1_00m00.00s_frame79.jpg"),
        (59.999, "keyframe_1_01m00.00s_frame79.jpg"),
        (3725.5, "keyframe_1_62m05.50s_frame79.jpg"),
    ],
)
def test_keyframe_is_named_by_its_time(time_s: float, name: str) -> None:
    assert keyframe_name(1, time_s=time_s, frame_idx=79) == name


@pytest.mark.parametrize(
    ("text", "name"), [("What's that?", "what_s_that"), ("../../etc", "etc"), ("\u4f60", ""), ("x" * 60, "x" * 40)]
)
def test_slug_is_a_safe_file_name(text: str, name: str) -> None:
    assert slug(text) == name


@pytest.mark.parametrize(
    ("start_s", "end_s", "ticks"),
    [
        (0.0, 4.0, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (0.3, 0.9, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.0, 600.0, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600]),
        (0.0, 48_000.0, [4000.0 * number for number in range(13)]),
    ],
)
def test_time_ticks_are_round_and_not_too_many(start_s: float, end_s: float, ticks: list[float]) -> None:
    assert time_ticks(start_s, end_s) == ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-7.2, -1.9, [-7, -6, -5, -4, -3, -2]),
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-150.0, 250.0, [-150, -100, -50, 0, 50, 100, 150, 200, 250]),
    ],
)
def test_value_ticks_are_round_and_not_too_many(low: float, high: float, ticks: list[float]) -> None:
    assert value_ticks(low, high) == ticks


@pytest.mark.parametrize(("time_s", "label"), [(0.5, "0.5 s"), (12.0, "12 s"), (65.0, "1:05"), (3600.0, "60:00")])
def test_times_are_labelled_in_seconds_or_minutes(time_s: float, label: str) -> None:
    assert time_label(time_s) == label
