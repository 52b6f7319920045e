"""Field names and values of JSON records, subtitles, and how times are written."""

import json
import math

import numpy as np
import pytest

from lavis.export.records import (
    answer_record,
    best_positions,
    moments_record,
    option_shares,
    time_label,
    time_ticks,
    to_json,
)
from tests.unit.export.results import VIDEO, make_answer, make_moments

ORIGIN = {
    "caveats": ["untrained"],
    "clip": None,
    "video": {"path": "clips/a.mp4", "duration_s": 4.0, "fps": 25.0, "num_frames": 100},
    "model": "sevila_tiny",
    "timings_s": {"decode": 0.5},
    "cost": None,
}
CURVE = [
    {"frame_idx": 12, "time_s": 0.5, "score": -1.0},
    {"frame_idx": 37, "time_s": 1.5, "score": 2.0},
    {"frame_idx": 62, "time_s": 2.5, "score": 0.5},
    {"frame_idx": 87, "time_s": 3.5, "score": 1.0},
]


def test_answer_record_has_the_documented_fields() -> None:
    answer = make_answer(caveats=("untrained",))
    assert answer_record(answer, video=VIDEO, model="sevila_tiny", timings_s={"decode": 0.5}) == {
        "id": "q7",
        "question": "Which colour?",
        "options": ["red", "green"],
        "answer": "green",
        "answer_index": 1,
        "option_scores": [
            {"letter": "A", "text": "red", "score": 0.0},
            {"letter": "B", "text": "green", "score": 2.0},
        ],
        "num_keyframes": 2,
        "keyframes": [
            {"frame_idx": 37, "time_s": 1.5, "score": 2.0},
            {"frame_idx": 87, "time_s": 3.5, "score": 1.0},
        ],
        "frame_choices": [],
        "frame_scores": CURVE,
        **ORIGIN,
    }


def test_moments_record_has_the_documented_fields() -> None:
    found = make_moments((1.0, 4.0, 1.25))
    assert moments_record(found, video=VIDEO, model="sevila_tiny", timings_s={"decode": 0.5}) == {
        "query": "a < b --> c",
        "moments": [{"start_s": 1.0, "end_s": 4.0, "score": 1.25}],
        "frame_scores": CURVE,
        **ORIGIN,
    }


def test_open_answer_has_neither_index_nor_options() -> None:
    record = answer_record(make_answer(options=(), option_scores=()), video=VIDEO, model="m", timings_s={})
    assert (record["answer"], record["answer_index"], record["option_scores"]) == ("a green thing", None, [])


def test_frames_that_are_not_scored_have_null_scores_and_no_curve() -> None:
    record = answer_record(make_answer(scores=()), video=VIDEO, model="m", timings_s={})
    assert [keyframe["score"] for keyframe in record["keyframes"]] == [None, None]
    assert record["frame_scores"] == []


def test_numbers_that_are_not_finite_become_null() -> None:
    answer = make_answer(scores=(math.nan, math.inf, 0.5, -math.inf), option_scores=(math.nan, 1.0))
    record = json.loads(to_json(answer_record(answer, video=VIDEO, model="m", timings_s={"load": math.nan})))
    assert [point["score"] for point in record["frame_scores"]] == [None, None, 0.5, None]
    assert [option["score"] for option in record["option_scores"]] == [None, 1.0]
    assert record["timings_s"] == {"load": None}


def test_json_is_ascii_and_keeps_paths_that_are_no_text() -> None:
    text = to_json({"path": "caf\u00e9 \udcff"})
    assert text.isascii()
    assert json.loads(text) == {"path": "caf\u00e9 \udcff"}


def test_records_hold_no_numpy_values() -> None:
    answer = make_answer()
    record = answer_record(answer, video=VIDEO, model="m", timings_s={"load": np.float64(1)})
    assert type(record["keyframes"][0]["frame_idx"]) is int
    assert type(record["frame_scores"][0]["score"]) is float
    assert type(record["timings_s"]["load"]) is float


def test_shares_are_the_softmax_of_the_scores() -> None:
    assert option_shares(np.array([0.0, math.log(3.0)])) == pytest.approx([0.25, 0.75])
    assert option_shares(np.array([1000.0, -1000.0])) == [1.0, 0.0]
    assert option_shares(np.array([1.0, math.nan])) == [0.0, 0.0]


def test_a_moment_is_shown_by_its_best_frame() -> None:
    assert best_positions(make_moments((3.0, 4.0, 1.0), (1.0, 3.0, 0.5))) == [3, 1]


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


@pytest.mark.parametrize(("time_s", "label"), [(0.5, "0.5 s"), (12.0, "12 s"), (65.0, "1:05"), (3600.0, "60:00")])
def test_times_are_labelled_in_seconds_or_minutes(time_s: float, label: str) -> None:
    assert time_label(time_s) == label
