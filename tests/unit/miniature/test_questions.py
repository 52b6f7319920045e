"""Questions and moment queries about the synthetic world."""

import numpy as np
import pytest

from sevila_data.miniature.questions import (
    MOMENT_TEMPLATES,
    NUM_OPTIONS,
    QUESTIONS_PER_VIDEO,
    TOPICS,
    ask,
    describe,
    fits,
    moments_of,
    questions_about,
)
from sevila_data.miniature.world import Scene, make_video

STAR = Scene("star", "red", "beach", "up", 0.0, 4.0)
RING = Scene("ring", "blue", "forest", "left", 4.0, 8.0)


@pytest.mark.parametrize(
    ("key", "asked", "text", "answer"),
    [
        ("shape", "colour", "What colour is the star?", "red"),
        ("place", "colour", "What colour is the thing on the beach?", "red"),
        ("colour", "shape", "Which shape is red?", "star"),
        ("place", "shape", "Which shape is on the beach?", "star"),
        ("shape", "place", "Where is the star?", "beach"),
        ("colour", "place", "Where is the red thing?", "beach"),
        ("shape", "motion", "Which way does the star move?", "up"),
    ],
)
def test_a_question_names_one_attribute_and_asks_for_another(key: str, asked: str, text: str, answer: str) -> None:
    question = ask(STAR, [RING], key=key, asked=asked, rng=np.random.default_rng(0))
    assert question.text == text
    assert question.answer is not None
    assert question.options[question.answer] == answer
    assert question.windows == (STAR.window,)


def test_wrong_options_are_what_other_scenes_show() -> None:
    question = ask(STAR, [RING], key="shape", asked="colour", rng=np.random.default_rng(0))
    assert len(set(question.options)) == NUM_OPTIONS
    assert "blue" in question.options


def test_every_video_has_eight_questions_of_different_topics() -> None:
    questions = questions_about(make_video("v", seed=[1], fps=4), seed=[1, 1])
    assert len(questions) == QUESTIONS_PER_VIDEO
    assert len({question.id for question in questions}) == QUESTIONS_PER_VIDEO
    assert len(TOPICS) > QUESTIONS_PER_VIDEO


def test_moment_queries_have_the_windows_of_all_scenes_they_fit() -> None:
    video = make_video("v", seed=[5], fps=4)
    queries = moments_of(video, seed=[5, 2])
    assert len(queries) == len(MOMENT_TEMPLATES)
    for template, (query, windows) in enumerate(queries):
        described = [scene for scene in video.scenes if describe(scene, template) == query]
        assert tuple(scene.window for scene in described) == windows


@pytest.mark.parametrize(("template", "expected"), [(0, True), (1, False), (2, False), (3, False), (8, False)])
def test_a_query_fits_a_scene_that_shares_what_it_speaks_of(template: int, *, expected: bool) -> None:
    other = Scene("star", "blue", "sea", "down")
    assert fits(other, STAR, template) is expected
