from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.types import Question, Span
from lavis.models.chain import asks_localizer, check_selector, selector_name
from lavis.models.frames import FrameSource
from lavis.selection.scorers.without_model import InWindows, Motion, Noise
from lavis.video import VideoReader, open_video
from tests.videos import write_video

QUESTIONS = [Question("what", id="1"), Question("who", id="2")]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", num_frames=8)


def opened(video: Path, chosen: list[int], opens: list[Path]) -> FrameSource:
    def open_counted() -> VideoReader:
        opens.append(video)
        return open_video(video)

    return FrameSource(np.array(chosen), np.array(chosen) / 25, open_video=open_counted)


def test_motion_is_the_mean_difference_from_the_frame_before(video: Path) -> None:
    opens: list[Path] = []
    frames = opened(video, [0, 1, 2, 5, 7], opens)
    pictures = frames.pictures(np.arange(5), size=32).astype(float)
    expected = [0, *(np.abs(pictures[i] - pictures[i - 1]).mean() / 255 for i in range(1, 5))]
    opens.clear()
    found = Motion().score(frames, QUESTIONS)
    np.testing.assert_allclose(found.scores, [expected, expected])
    np.testing.assert_allclose(found.margins, found.scores - np.mean(expected))
    assert min(expected[1:]) > 0.05
    Motion().score(frames, QUESTIONS)
    assert len(opens) <= 2  # each frame is decoded once


def test_motion_decodes_only_what_is_asked_about_and_the_frame_before(video: Path) -> None:
    frames = opened(video, list(range(8)), [])
    where = np.zeros((2, 8), bool)
    where[0, 0] = where[1, 3] = True
    found = Motion(size=16).score(frames, QUESTIONS, where=where)
    np.testing.assert_array_equal(np.isfinite(found.scores), where)
    assert np.flatnonzero(frames.was_decoded).tolist() == [2, 3]
    assert found.scores[1, 3] == Motion(size=16).score(opened(video, list(range(8)), []), QUESTIONS).scores[1, 3]


def test_one_frame_does_not_move(video: Path) -> None:
    assert Motion().score(opened(video, [3], []), QUESTIONS).scores.tolist() == [[0], [0]]


def still(count: int) -> FrameSource:
    return FrameSource(np.arange(count), np.arange(count) / 2)


def test_windows_score_one_inside_and_zero_outside_both_ends_belonging_to_them() -> None:
    questions = [Question("a", windows=(Span(0.5, 1.0), Span(2.0, 9.0))), Question("b", windows=(Span(5, 6),))]
    found = InWindows().score(still(6), questions)
    assert found.scores.tolist() == [[0, 1, 1, 0, 1, 1], [0] * 6]
    assert (found.margins > 0).tolist() == (found.scores == 1).tolist()
    with pytest.raises(QuestionError, match="question 'c' has no windows to score frames by"):
        InWindows().score(still(6), [*questions, Question("text", id="c")])


def test_noise_depends_on_seed_and_question_and_not_on_what_else_is_asked() -> None:
    found = Noise().score(still(50), QUESTIONS)
    assert ((found.scores >= 0) & (found.scores < 1)).all()
    assert not np.array_equal(*found.scores)
    np.testing.assert_array_equal(Noise().score(still(50), QUESTIONS[1:]).scores[0], found.scores[1])
    assert not np.array_equal(Noise(seed=1).score(still(50), QUESTIONS).scores, found.scores)
    where = found.scores > 0.5
    np.testing.assert_array_equal(
        Noise().score(still(50), QUESTIONS, where=where).scores, np.where(where, found.scores, np.nan)
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [({"name": "motion", "size": 0}, "of 0 pixels"), ({"name": "noise", "seed": -1}, "a seed is -1; give 0 or more")],
)
def test_settings_that_cannot_be_are_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_selector({"scorer": spec})


def test_the_localizer_is_needed_only_where_it_scores() -> None:
    asked = partial(map, asks_localizer)
    assert list(asked(["top_k", "localizer", "coarse_to_fine", {"scorer": "localizer"}])) == [True] * 4
    assert list(asked(["motion", "uniform", {"scorer": "noise", "policy": "coarse_to_fine"}])) == [False] * 3


def test_names_of_selectors_tell_a_scorer_from_the_policy_of_its_name() -> None:
    assert selector_name({"scorer": {"name": "motion"}}) == "motion"
    assert selector_name({"scorer": "windows"}) == "top_k by windows"
    assert selector_name({"policy": "windows"}) == selector_name("windows") == "windows"
