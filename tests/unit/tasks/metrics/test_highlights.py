from statistics import mean, median_low

import numpy as np
import pytest

from lavis.tasks.metrics.highlights import highlight_scores, top_clips_precision


def slow_precision(curve: list[float], ratings: list[int]) -> float:
    """As UMT's paper and code describe it, clip by clip, for one annotator."""
    border = median_low(ratings)
    ranked = sorted(range(len(ratings)), key=lambda clip: -curve[clip])[:5]
    highlights = [ratings[clip] > border for clip in ranked]
    if not any(highlights):
        return 0.0
    area, recall, precision, hits = 0.0, 0.0, 1.0, 0
    for rank, is_highlight in enumerate(highlights, start=1):
        hits += is_highlight
        next_recall, next_precision = hits / sum(highlights), hits / rank
        area += (next_recall - recall) * (precision + next_precision) / 2
        recall, precision = next_recall, next_precision
    return area


def test_a_perfect_curve_and_the_worst_one() -> None:
    ratings = np.array([[1], [1], [1], [1], [1], [1], [5], [5]])
    assert top_clips_precision(np.arange(8.0), ratings).tolist() == [1.0]
    # All five are no highlights.
    assert top_clips_precision(-np.arange(8.0), ratings).tolist() == [0.0]


def test_the_area_is_made_of_trapezoids() -> None:
    # Of the highest five, the second and the fifth are highlights: precision 0, 1/2, 1/3, 1/4, 2/5.
    ratings = np.array([[1], [5], [1], [1], [5], [1], [1], [1]])
    area = top_clips_precision(-np.arange(8.0), ratings)
    assert area == pytest.approx([0.5 * (0 + 1 / 2) / 2 + 0.5 * (1 / 4 + 2 / 5) / 2])


def test_the_border_is_the_lower_of_two_middle_ratings() -> None:
    # The middle ratings are 2 and 4: 4 is above the lower one.
    ratings = np.array([[1], [4], [2], [5]])
    assert top_clips_precision(np.array([0.0, 2, 1, 3]), ratings) == pytest.approx([1.0])


@pytest.mark.parametrize("seed", range(20))
def test_figures_equal_those_of_a_slow_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(3, 40))
    ratings = rng.integers(1, 6, (clips, 20))
    curve = rng.permutation(clips).astype(float)
    expected = [slow_precision(curve.tolist(), ratings[:, annotator].tolist()) for annotator in range(20)]
    assert top_clips_precision(curve, ratings) == pytest.approx(expected)


def test_missing_clips_rank_last_and_further_ones_are_left_out() -> None:
    ratings = np.array([[5], [1], [1], [1], [1], [1], [5]])
    # The last clip has no score: the five before it are the highest.
    assert top_clips_precision(np.array([6.0, 5, 4, 3, 2, 1]), ratings) == pytest.approx([1.0])
    assert top_clips_precision(np.array([6.0, 5, 4, 3, 2, 1, 0, 99]), ratings) == pytest.approx([1.0])


def test_the_figure_is_the_mean_over_domains_not_over_videos() -> None:
    perfect, worst = np.arange(8.0), -np.arange(8.0)
    ratings = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [5, 5], [5, 5]])
    scores = highlight_scores([perfect, perfect, None, worst], [ratings] * 4, ["VT", "VT", "VT", "BK"])
    assert scores == {"mAP@5": pytest.approx(mean([200 / 3, 0])), "BK": 0.0, "VT": pytest.approx(200 / 3), "videos": 4}
