from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lavis.common.errors import QuestionError
from lavis.common.types import Floats, Question, Span, Unread
from lavis.models.base import FrameScores, Mask, Selection
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import All, Random, TopK, Uniform, Windows, top_positions, uniform_positions


def frames(count: int = 10) -> FrameSource:
    """Frames of which only the times are known, two a second."""
    return FrameSource(np.arange(count), np.arange(count) / 2)


@pytest.mark.parametrize(
    ("scores", "num_keyframes", "positions"),
    [
        pytest.param([[0.0, 3.0, 1.0, 2.0]], 2, [[1, 3]], id="the highest"),
        pytest.param([[3.0, 0.0, 1.0, 2.0]], 3, [[0, 2, 3]], id="in time order, not by score"),
        pytest.param([[1.0, 2.0, 2.0, 2.0]], 2, [[1, 2]], id="a tie at the border goes to the earlier frame"),
        pytest.param([[0.5] * 4], 3, [[0, 1, 2]], id="all equal"),
        pytest.param([[0.0, 1.0] * 50], 4, [[1, 3, 5, 7]], id="many ties, which an unstable sort mixes"),
        pytest.param([[0.0, 1.0], [1.0, 0.0]], 1, [[1], [0]], id="each question its own"),
        pytest.param([[-3.0, -1.0, -2.0]], 3, [[0, 1, 2]], id="all frames"),
        pytest.param([[7.0]], 1, [[0]], id="one frame"),
    ],
)
def test_top_positions(scores: list[list[float]], num_keyframes: int, positions: list[list[int]]) -> None:
    found = top_positions(np.array(scores), num_keyframes)
    assert found.tolist() == positions
    assert found.dtype == np.int64


def test_uniform_positions_are_distinct_and_within_range_for_any_numbers() -> None:
    for num_frames in range(1, 65):
        for num_keyframes in range(1, num_frames + 1):
            found = uniform_positions(num_frames, num_keyframes)
            assert len(found) == num_keyframes
            assert found[0] >= 0
            assert found[-1] < num_frames
            assert (np.diff(found) > 0).all()


@pytest.mark.parametrize(
    ("num_frames", "num_keyframes", "positions"),
    [(32, 4, [4, 12, 20, 28]), (8, 8, list(range(8))), (5, 1, [2]), (1, 1, [0]), (7, 2, [1, 5])],
)
def test_uniform_positions_are_the_middles_of_equal_segments(
    num_frames: int, num_keyframes: int, positions: list[int]
) -> None:
    assert uniform_positions(num_frames, num_keyframes).tolist() == positions


class GivenScores:
    """A Localizer whose scores are known."""

    def __init__(self, scores: list[list[float]]) -> None:
        self.scores: Floats = np.array(scores)

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        return FrameScores(self.scores, -self.scores, (Unread(), Unread(truncated=True)))


def positions_of(found: list[Selection]) -> list[list[int]]:
    return [selection.positions.tolist() for selection in found]


def test_top_k_keeps_the_best_by_score_not_by_margin() -> None:
    scorer = GivenScores([[1.0, 5.0, 3.0], [9.0, 2.0, 4.0]])
    found = TopK().choose(frames(3), [Question("a"), Question("b")], k=2, scorer=scorer)
    assert positions_of(found) == [[1, 2], [0, 2]]
    assert [selection.scores.tolist() for selection in found] == [[1.0, 5.0, 3.0], [9.0, 2.0, 4.0]]
    assert [selection.unread for selection in found] == [Unread(), Unread(truncated=True)]


def test_uniform_gives_every_question_the_same_frames_without_scores() -> None:
    found = Uniform().choose(frames(), [Question("a"), Question("b")], k=2, scorer=None)
    assert positions_of(found) == [[2, 7], [2, 7]]
    assert [(len(selection.scores), selection.unread) for selection in found] == [(0, Unread())] * 2


def test_all_frames_are_chosen_whatever_k_is() -> None:
    assert positions_of(All().choose(frames(3), [Question("a")], k=1, scorer=None)) == [[0, 1, 2]]


def drawn(*questions: Question, seed: int | None = 0) -> list[list[int]]:
    return positions_of(Random(seed=seed).choose(frames(100), questions, k=8, scorer=None))


def test_without_a_seed_random_frames_are_drawn_by_torch() -> None:
    torch.manual_seed(3)
    first, second = (drawn(Question("x", id="q1"), seed=None) for _ in range(2))
    torch.manual_seed(3)
    assert drawn(Question("x", id="q1"), seed=None) == first != second
    assert first == [sorted(set(first[0]))]


def test_random_frames_are_reproducible_by_seed_and_id_whatever_else_is_asked() -> None:
    first, second = drawn(Question("x", id="q1"), Question("x", id="q2"))
    assert drawn(Question("y", id="q2")) == [second]
    assert first != second
    assert drawn(Question("x", id="q1"), seed=1) != [first]


def test_random_frames_are_distinct_and_in_time_order() -> None:
    for positions in drawn(*(Question("x", id=str(number)) for number in range(20))):
        assert positions == sorted(set(positions))
        assert len(positions) == 8
        assert positions[0] >= 0
        assert positions[-1] < 100


def test_questions_without_an_id_draw_frames_by_their_text() -> None:
    first, second, again = drawn(Question("Why?"), Question("Who?"), Question("Why?"))
    assert first != second
    assert first == again


@pytest.mark.parametrize(
    ("windows", "num_keyframes", "positions"),
    [
        pytest.param([Span(1.0, 2.5)], 4, [2, 3, 4, 5], id="closed at both ends"),
        pytest.param([Span(1.0, 2.5)], 2, [3, 5], id="evenly inside"),
        pytest.param([Span(0, 0.5), Span(4, 4.5)], 4, [0, 1, 8, 9], id="several windows"),
        pytest.param([Span(0, 1), Span(0.5, 1)], 3, [0, 1, 2], id="windows that overlap count once"),
        pytest.param([Span(1.0, 1.5)], 4, [2, 3, 4, 8], id="too few inside: the rest evenly outside"),
        pytest.param([Span(1.1, 1.4)], 2, [2, 7], id="no frame inside: as if uniform"),
        pytest.param([Span(0, 9)], 10, list(range(10)), id="all frames"),
    ],
)
def test_windows_selector(windows: list[Span], num_keyframes: int, positions: list[int]) -> None:
    question = Question("x", windows=tuple(windows))
    found = Windows().choose(frames(), [question], k=num_keyframes, scorer=None)
    assert positions_of(found) == [positions]


@pytest.mark.parametrize("windows", [None, ()])
def test_windows_selector_refuses_a_question_without_windows(windows: tuple[Span, ...] | None) -> None:
    with pytest.raises(QuestionError, match=r"^question 'q7' has no windows to choose frames from$"):
        Windows().choose(frames(), [Question("x", id="q7", windows=windows)], k=1, scorer=None)
