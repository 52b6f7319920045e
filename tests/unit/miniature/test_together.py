"""What the embedded model's last stage shows is right: the frames, and the words that it is to write."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lavis.common.moments import inside_windows
from sevila_data.miniature.dataset import videos_of
from sevila_data.miniature.together import Lesson, SeenVideo, draw_lesson, draw_sentence
from sevila_data.miniature.world import Scene


@pytest.fixture(scope="module")
def seen() -> SeenVideo:
    video = next(iter(videos_of("base", 1, seed=0)))
    times_s = np.linspace(0, video.duration_s, 48, endpoint=False)
    return SeenVideo(video, torch.empty(48, 1, 1), times_s)


def shown(lesson: Lesson) -> Sequence[Scene]:
    """The scenes of the frames that show what is asked."""
    scenes = lesson.seen.video.scenes
    return [one for one in scenes if (inside_windows(lesson.seen.times_s, [one.window]) & lesson.relevant).any()]


@pytest.mark.parametrize("num_frames", [1, 4, 8])
@pytest.mark.parametrize("kind", ["option", "open"])
@pytest.mark.parametrize("seed", range(20))
def test_a_question_is_answered_by_frames_that_are_read(seen: SeenVideo, kind: str, num_frames: int, seed: int) -> None:
    lesson = draw_lesson(kind, seen, num_frames=num_frames, rng=np.random.default_rng(seed))
    assert lesson.read.tolist() == sorted(set(lesson.read.tolist()))
    assert len(lesson.read) == num_frames
    assert lesson.relevant[lesson.read].any()
    [scene] = shown(lesson)
    values = {scene.shape, scene.colour, scene.place, scene.motion}
    if kind == "open":
        assert not lesson.question.options
        assert lesson.target in values
    else:
        assert 2 <= len(lesson.question.options) <= 8
        assert lesson.question.options["ABCDEFGH".index(lesson.target.removeprefix("Option "))] in values


def test_whether_something_is_shown_is_right_about_as_often_as_not(seen: SeenVideo) -> None:
    rng = np.random.default_rng(0)
    lessons = [draw_lesson("whether", seen, num_frames=4, rng=rng) for _ in range(200)]
    for lesson in lessons:
        assert lesson.target == ("yes" if lesson.relevant[lesson.read].any() else "no")
    assert 0.25 < np.mean([lesson.target == "yes" for lesson in lessons]) < 0.75


def test_a_sentence_fits_the_frames_of_the_scene_that_it_names(seen: SeenVideo) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_sentence(seen, [(("colour", "shape"), "A {colour} {shape}")], rng=rng) for _ in range(60)]
    assert 0.5 < np.mean([relevant.any() for _, relevant in drawn]) < 1
    for text, relevant in drawn:
        for scene in seen.video.scenes:
            inside = inside_windows(seen.times_s, [scene.window])
            assert (relevant[inside] == (text == f"A {scene.colour} {scene.shape}")).all()
