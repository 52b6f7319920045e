"""The exercises that teach the language model in words."""

import numpy as np
import pytest

from sevila_data.miniature.questions import MAX_OPTIONS
from sevila_data.miniature.word_tasks import (
    Exercise,
    answer_openly,
    answer_whether,
    choose_option,
    judge_question,
    judge_sentence,
)


@pytest.mark.parametrize("num_options", [2, 5, MAX_OPTIONS])
@pytest.mark.parametrize("num_frames", [1, 4, 8])
def test_an_option_stands_in_every_relevant_frame(num_frames: int, num_options: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        exercise = choose_option(rng, num_frames=num_frames, num_options=num_options)
        assert len(set(exercise.options)) == num_options
        letter = "ABCDEFGH"[exercise.options.index(str(exercise.word))]
        assert exercise.target == f"Option {letter}"
        assert f"Option {letter}: {exercise.word}" in exercise.prompt
        assert len(exercise.frames) == num_frames
        assert any(exercise.relevant)
        assert all(exercise.word in words for words in relevant_frames(exercise))


@pytest.mark.parametrize("num_frames", [1, 2, 8])
def test_an_open_question_is_answered_by_the_word_itself(num_frames: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        exercise = answer_openly(rng, num_frames=num_frames)
        assert exercise.prompt.endswith("? Short answer:")
        assert exercise.target == exercise.word
        assert exercise.options == ()
        assert all(exercise.word in words for words in relevant_frames(exercise))


@pytest.mark.parametrize("num_frames", [1, 4])
def test_yes_is_said_where_a_frame_fits_and_about_as_often_as_no(num_frames: int) -> None:
    rng = np.random.default_rng(0)
    exercises = [answer_whether(rng, num_frames=num_frames) for _ in range(400)]
    assert all(exercise.target == ("yes" if any(exercise.relevant) else "no") for exercise in exercises)
    assert 0.45 < np.mean([exercise.target == "yes" for exercise in exercises]) < 0.8


def test_a_sentence_is_judged_by_whether_the_frame_fits_it() -> None:
    rng = np.random.default_rng(0)
    exercises = [judge_sentence(rng) for _ in range(400)]
    assert all("?" not in exercise.prompt.partition(" Option A: yes.")[0] for exercise in exercises)
    assert all((exercise.target == "yes") == exercise.relevant[0] for exercise in exercises)
    assert 0.45 < np.mean([exercise.relevant[0] for exercise in exercises]) < 0.75


@pytest.mark.parametrize("num_options", [1, 2, 8])
def test_a_question_is_judged_by_whether_the_frame_holds_what_it_names(num_options: int) -> None:
    rng = np.random.default_rng(0)
    exercises = [judge_question(rng, num_options=num_options) for _ in range(40)]
    for exercise in exercises:
        named = exercise.prompt.partition("?")[0].removeprefix("Question: ").split()
        assert exercise.target == ("yes" if any(word in named for word in exercise.frames[0]) else "no")
        assert ("Options: (" in exercise.prompt) is (num_options > 1)
    assert {exercise.target for exercise in exercises} == {"yes", "no"}


def relevant_frames(exercise: Exercise) -> list[tuple[str, ...]]:
    """The words of the frames that show what is asked."""
    return [words for words, shows in zip(exercise.frames, exercise.relevant, strict=True) if shows]
