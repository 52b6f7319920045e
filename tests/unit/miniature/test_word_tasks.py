"""The exercises that teach the language model in words."""

import numpy as np
import pytest

from sevila_data.miniature.word_tasks import choose_option, judge_moment, judge_question


@pytest.mark.parametrize("num_frames", [1, 4, 8])
def test_an_option_stands_in_every_relevant_frame(num_frames: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        exercise = choose_option(rng, num_frames=num_frames)
        letter = "ABCDE"[exercise.answer or 0]
        option = exercise.prompt.partition(f"Option {letter}: ")[2].split()[0]
        assert exercise.target == f"Option {letter}"
        assert len(exercise.frames) == num_frames
        assert any(exercise.relevant)
        relevant = [words for words, shows in zip(exercise.frames, exercise.relevant, strict=True) if shows]
        assert all(option in words for words in relevant)


def test_a_question_is_judged_by_whether_the_frame_holds_what_it_names() -> None:
    rng = np.random.default_rng(0)
    targets = set()
    for _ in range(40):
        exercise = judge_question(rng)
        question = exercise.prompt.partition("?")[0].removeprefix("Question: ").split()
        named = any(word in question for word in exercise.frames[0])
        assert exercise.target == ("yes" if named else "no")
        targets.add(exercise.target)
    assert targets == {"yes", "no"}


def test_about_half_of_the_moments_are_shown() -> None:
    rng = np.random.default_rng(0)
    shown = np.mean([judge_moment(rng).target == "yes" for _ in range(400)])
    assert 0.45 < shown < 0.75
