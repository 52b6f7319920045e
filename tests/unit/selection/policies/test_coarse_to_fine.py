import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScores, Selection, VideoModel
from lavis.models.chain import build_selector, selector_names
from lavis.models.frames import FrameSource
from lavis.selection.policies.coarse_to_fine import CoarseToFine, Mask, closer
from lavis.selection.policies.plain import top_positions


class KnownLocalizer:
    """Scores are known; it remembers which were asked for."""

    def __init__(self, scores: Floats) -> None:
        self.scores = scores
        self.asked: list[Mask] = []

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        assert where is not None
        self.asked.append(where)
        scores = np.where(where, self.scores, np.nan)
        return FrameScores(scores, scores, tuple(Unread(truncated=question.text == "cut") for question in questions))


def choose(localizer: KnownLocalizer, asked: Sequence[Question], k: int) -> tuple[Integers, Floats, list[Selection]]:
    """Positions [B, K], scores [B, T], and what they are from."""
    count = localizer.scores.shape[1]
    frames = FrameSource(np.arange(count), np.arange(float(count)))
    found = CoarseToFine().choose(frames, asked, k=k, scorer=localizer)
    return np.stack([one.positions for one in found]), np.stack([one.scores for one in found]), found


def hill(length: int, top: float, *, width: float) -> Floats:
    return np.exp(-(((np.arange(length) - top) / width) ** 2))


def questions(count: int) -> list[Question]:
    return [Question(str(number)) for number in range(count)]


@pytest.mark.parametrize(
    ("known", "scores", "num_keyframes", "wanted"),
    [
        pytest.param([2, 6], [1.0, 2.0], 1, [4, 8], id="both gaps of the best"),
        pytest.param([2, 6], [3.0, 2.0], 1, [0, 4], id="before the first frame there may be a gap too"),
        pytest.param([0, 1, 4], [3.0, 2.0, 1.0], 1, [], id="no gap beside the best"),
        pytest.param([0, 1, 4], [3.0, 2.0, 1.0], 2, [3], id="the gap beside the second"),
        pytest.param([0, 8], [1.0, 1.0], 1, [4], id="a tie goes to the earlier"),
        pytest.param([1, 3, 5, 8], [4.0, 1.0, 3.0, 0.0], 2, [7], id="gaps before single frames"),
        pytest.param([1, 3, 5, 7, 8], [4.0, 1.5, 3.0, 0.0, 0.0], 3, [0, 2, 4], id="single frames beside good ones"),
        pytest.param([1, 3, 5, 7, 8], [4.0, 1.5, 3.0, 0.0, 0.0], 2, [0], id="beside the best alone"),
        pytest.param([0, 2, 4, 6, 8, 9], [1.0] * 6, 4, [], id="all are equal"),
        pytest.param(range(10), range(10), 4, [], id="everything is known"),
    ],
)
def test_gaps_beside_the_best_are_halved_down_to_promising_frames(
    known: Sequence[int], scores: Sequence[float], num_keyframes: int, wanted: list[int]
) -> None:
    mask, row = np.zeros(10, dtype=bool), np.full(10, np.nan)
    mask[list(known)], row[list(known)] = True, list(scores)
    assert np.flatnonzero(closer(mask, row, num_keyframes)).tolist() == wanted


@pytest.mark.parametrize("top", [0, 3, 37, 100, 222, 299])
def test_a_moment_longer_than_the_gaps_is_found(top: int) -> None:
    scores = hill(300, top, width=12)[None]
    positions, found, _ = choose(KnownLocalizer(scores), questions(1), 4)
    assert np.abs(positions - top).min() == 0
    assert np.abs(positions - top).max() <= 4
    assert np.isfinite(found).sum() <= 54


def test_no_frame_is_scored_twice_and_those_that_were_not_have_no_score() -> None:
    scores = np.stack([hill(200, 20, width=9), hill(200, 150, width=15)])
    localizer = KnownLocalizer(scores)
    _, found, selections = choose(localizer, [Question("cut"), Question("whole")], 3)
    times_asked = np.sum(localizer.asked, axis=0)
    assert times_asked.max() == 1
    np.testing.assert_array_equal(np.isnan(found), times_asked == 0)
    np.testing.assert_array_equal(found[times_asked == 1], scores[times_asked == 1])
    assert [one.unread for one in selections] == [Unread(truncated=True), Unread()]
    assert localizer.asked[0].sum(1).tolist() == [25, 25]


@pytest.mark.parametrize(("num_frames", "num_keyframes"), [(1, 1), (3, 3), (7, 4), (8, 4), (32, 4), (33, 1)])
def test_any_number_of_frames_gives_that_many_keyframes(num_frames: int, num_keyframes: int) -> None:
    scores = np.random.default_rng(num_frames).normal(size=(2, num_frames))
    positions, found, _ = choose(KnownLocalizer(scores), questions(2), num_keyframes)
    assert positions.shape == (2, num_keyframes)
    assert np.isfinite(np.take_along_axis(found, positions, 1)).all()
    if num_frames <= 2 * num_keyframes:
        assert positions.tolist() == top_positions(scores, num_keyframes).tolist()


def test_scores_that_are_no_numbers_end_the_search() -> None:
    scores = np.full((1, 50), math.nan)
    positions, _, _ = choose(KnownLocalizer(scores), questions(1), 2)
    assert positions.shape == (1, 2)


def test_it_is_built_by_name_with_the_model_s_localizer_and_with_arguments() -> None:
    localizer = KnownLocalizer(hill(80, 44, width=12)[None])
    frames = FrameSource(np.arange(80), np.arange(80.0))
    for spec, first in (("coarse_to_fine", 10), ({"policy": {"name": "coarse_to_fine", "gap": 4}}, 20)):
        model = cast("VideoModel", SimpleNamespace(as_scorer=lambda prompt: localizer))
        selector = build_selector(spec, model, prompt="moment")
        localizer.asked.clear()
        (found,) = selector.select(frames, questions(1), k=1)
        assert found.positions.tolist() == [44]
        assert localizer.asked[0].sum() == first
    assert "coarse_to_fine" in selector_names()


@pytest.mark.parametrize("top", range(32))
def test_a_single_frame_is_looked_for_as_four_are(top: int) -> None:
    scores = hill(32, top, width=3)[None]
    one, four = KnownLocalizer(scores), KnownLocalizer(scores)
    (position,), _, _ = choose(one, questions(1), 1)
    choose(four, questions(1), 4)
    assert [asked.tolist() for asked in one.asked] == [asked.tolist() for asked in four.asked]
    assert position[0] == top


def test_a_gap_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot score one frame in 0; give a gap of at least 1"):
        CoarseToFine(gap=0)
