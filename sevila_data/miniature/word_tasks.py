"""Exercises in words alone: what the language model reads in place of frames, and what it should say.

Every frame token is a random blend of the embeddings of the words that describe the frame, so that a visual
prompter later finds many ways to be understood. The real prompt classes word the questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavis.common.types import Question
from lavis.processors.prompts import MomentPrompt, MultipleChoicePrompt, option_target
from sevila_data.miniature.questions import MOMENT_TEMPLATES, TOPICS, ask, describe, fits
from sevila_data.miniature.world import MAX_SCENES, MIN_SCENES, VALUES, Scene, draw_scenes

SCENE_S = 4.0
_ANSWERER = MultipleChoicePrompt()
_MOMENT = MomentPrompt()


@dataclass(frozen=True)
class Exercise:
    """One prompt about frames that are described in words.

    Attributes:
        frames: for each frame the words that describe it.
        target: what the language model should write.
        relevant: for each frame, whether it shows what the prompt is about.
        answer: index of the right option, where options are chosen from.
    """

    frames: tuple[tuple[str, ...], ...]
    prompt: str
    target: str
    relevant: tuple[bool, ...]
    answer: int | None = None


def words_of(scene: Scene) -> tuple[str, ...]:
    """Describe a scene in four words."""
    return tuple(scene.value(attribute) for attribute in VALUES)


def choose_option(rng: np.random.Generator, *, num_frames: int) -> Exercise:
    """Ask for the option that one or more of the frames show; the others show other scenes."""
    scenes, question = _scenes_and_question(rng, at_least=num_frames)
    shown = _frames_with_first(rng, len(scenes), num_frames)
    answer = question.answer or 0
    return Exercise(
        frames=tuple(words_of(scenes[index]) for index in shown),
        prompt=_ANSWERER.answerer(question),
        target=option_target(answer),
        relevant=tuple(index == 0 for index in shown),
        answer=answer,
    )


def judge_question(rng: np.random.Generator) -> Exercise:
    """Ask whether one frame has the details to answer a question."""
    scenes, question = _scenes_and_question(rng)
    yes = bool(rng.random() < 0.5)
    shown = scenes[0] if yes else scenes[int(rng.integers(1, len(scenes)))]
    return _judged(shown, _ANSWERER.localizer(question), yes=yes)


def judge_moment(rng: np.random.Generator) -> Exercise:
    """Ask whether one frame shows what a sentence describes; wrong frames often share a part with it."""
    scenes = _scenes(rng)
    described, other = scenes[0], scenes[int(rng.integers(1, len(scenes)))]
    template = int(rng.integers(len(MOMENT_TEMPLATES)))
    shapes, colours = (described.shape, other.shape), (described.colour, other.colour)
    near = Scene(str(rng.choice(shapes)), str(rng.choice(colours)), other.place, other.motion)
    shown = (described, near, other)[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
    prompt = _MOMENT.localizer(Question(describe(described, template)))
    return _judged(shown, prompt, yes=fits(shown, described, template))


def _judged(shown: Scene, prompt: str, *, yes: bool) -> Exercise:
    return Exercise((words_of(shown),), prompt, "yes" if yes else "no", (yes,))


def _scenes(rng: np.random.Generator, *, at_least: int = MIN_SCENES) -> Sequence[Scene]:
    count = int(rng.integers(max(at_least, MIN_SCENES), MAX_SCENES + 1))
    return draw_scenes(rng, [SCENE_S * (number + 1) for number in range(count)])


def _scenes_and_question(rng: np.random.Generator, *, at_least: int = MIN_SCENES) -> tuple[Sequence[Scene], Question]:
    scenes = _scenes(rng, at_least=at_least)
    key, asked = TOPICS[int(rng.integers(len(TOPICS)))]
    return scenes, ask(scenes[0], scenes[1:], key=key, asked=asked, rng=rng)


def _frames_with_first(rng: np.random.Generator, num_scenes: int, num_frames: int) -> list[int]:
    # Half of the time one frame of four holds the fact; else any number of them, as a good Localizer chooses.
    if num_frames == 1 or rng.random() < 0.5:
        others = 1 + rng.permutation(num_scenes - 1)[: num_frames - 1]
        return rng.permutation([0, *others]).tolist()
    shown = rng.integers(num_scenes, size=num_frames)
    shown[rng.integers(num_frames)] = 0
    return (np.sort(shown) if rng.random() < 0.5 else shown).tolist()
