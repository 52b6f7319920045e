"""The timeline: where things stand, and which part is shaded."""

import re

import numpy as np
import pytest

from lavis.demo.timeline import Pin, Timeline, best_span

TIMES = np.array([1.0, 3.0, 5.0, 7.0])


def timeline(scores: list[float], *, pins: tuple[float, ...] = (), threshold: float | None = None) -> str:
    made = [Pin(number, time_s, f"Keyframe {number}") for number, time_s in enumerate(pins, start=1)]
    return Timeline(TIMES, np.array(scores), 8.0, made, [(2.0, 4.0)], "score", threshold).html()


def test_the_curve_spans_the_whole_video_and_higher_is_upwards() -> None:
    (points,) = re.findall(r'class="curve" points="(.*?)"', timeline([0, 1, 0.5, 0]))
    places = [tuple(float(number) for number in point.split(",")) for point in points.split()]
    assert [x for x, _ in places] == [125, 375, 625, 875]
    assert [round(y, 1) for _, y in places] == [90.3, 9.7, 50.0, 90.3]


def test_spans_and_pins_stand_at_their_times() -> None:
    html = timeline([0, 1, 0.5, 0], pins=(2.0, 6.0))
    assert re.findall(r'class="span" x="(.*?)" y="0" width="(.*?)"', html) == [("250.0", "250.0")]
    assert re.findall(r'data-seek="(.*?)".*?left:(.*?);', html) == [("2.000", "25.00%"), ("6.000", "75.00%")]


def test_a_threshold_is_within_the_picture_even_where_no_score_reaches_it() -> None:
    html = timeline([-3, -2, -2.5, -3], threshold=0.0)
    (level,) = re.findall(r'class="threshold" x1="0" x2="1000" y1="(.*?)"', html)
    assert 0 < float(level) < 100


@pytest.mark.parametrize("scores", [[], [0.0, np.nan, 1.0, 2.0]])
def test_without_scores_there_is_no_curve_and_still_a_timeline(scores: list[float]) -> None:
    html = timeline(scores, pins=(2.0,))
    assert 'class="curve"' not in html
    assert 'class="pin"' in html


def test_numbers_that_are_near_each_other_stand_on_rows_of_their_own() -> None:
    html = timeline([0, 1, 0, 0], pins=(1.0, 1.1, 1.2, 5.0))
    assert re.findall(r"--level:(\d)", html) == ["0", "1", "2", "0"]
    assert "--levels:3" in html


def test_a_crowd_of_numbers_does_not_grow_without_end() -> None:
    html = timeline([0, 1, 0, 0], pins=(1.0,) * 9)
    assert max(int(level) for level in re.findall(r"--level:(\d)", html)) == 3


def test_the_label_is_text() -> None:
    html = Timeline(TIMES, TIMES, 8.0, [Pin(1, 1.0, '"><b>')], [], '"><b>').html()
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("scores", "span"),
    [
        ([0.0, 4.0, 3.0, 0.0], (2.0, 6.0)),
        ([0.0, 0.0, 0.0, 4.0], (6.0, 8.0)),
        ([4.0, 0.0, 3.0, 3.0], (0.0, 2.0)),
        ([1.0, 1.0, 1.0, 1.0], None),
        ([], None),
        ([0.0, np.inf, 1.0, 2.0], None),
    ],
)
def test_the_shaded_part_is_around_the_best_frame_where_scores_are_high(
    scores: list[float], span: tuple[float, float] | None
) -> None:
    assert best_span(TIMES, np.array(scores), duration_s=8.0) == span
