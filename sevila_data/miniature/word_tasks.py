"""Exercises in words alone: what the language model reads in place of frames, and what it should say.

Every frame token is a random blend of the embeddings of the words that describe the frame, so that a visual
prompter later finds many ways to be understood. The real prompt classes word the questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavis.common.types import Question
from lavis.processors.prompts import MomentPrompt, MultipleChoicePrompt, option_target
from sevila_data.miniature.questions import (
    NUM_OPTIONS,
    SENTENCE_TEMPLATES,
    TOPICS,
    WHETHER_TEMPLATES,
    Templates,
    ask,
    describe,
    fits,
)
from sevila_data.miniature.world import MAX_SCENES, MIN_SCENES, VALUES, Scene, draw_scenes

SCENE_S = 4.0
_ANSWERER = MultipleChoicePrompt()
_MOMENT = MomentPrompt()
_NAMED = ("shape", "colour")


@dataclass(frozen=True)
class Exercise:
    """One prompt about frames that are described in words.

    Attributes:
        frames: for each frame the words that describe it.
        target: what the language model should write.
        relevant: for each frame, whether it shows what the prompt is about.
        options: the options that are chosen from.
        word: the word that answers, among the options where there are any; None where it is yes or no.
    """

    frames: tuple[tuple[str, ...], ...]
    prompt: str
    target: str
    relevant: tuple[bool, ...]
    options: tuple[str, ...] = ()
    word: str | None = None


def words_of(scene: Scene) -> tuple[str, ...]:
    """Describe a scene in four words."""
    return tuple(scene.value(attribute) for attribute in VALUES)


def choose_option(rng: np.random.Generator, *, num_frames: int, num_options: int = NUM_OPTIONS) -> Exercise:
    """Ask for the option that one or more of the frames show; the others show other scenes."""
    scenes, question = _scenes_and_question(rng, at_least=num_frames, num_options=num_options)
    answer = question.answer or 0
    return _exercise(scenes, _frames_with_first(rng, len(scenes), num_frames), question, option_target(answer))


def answer_openly(rng: np.random.Generator, *, num_frames: int) -> Exercise:
    """Ask for the word itself, without options."""
    scenes, question = _scenes_and_question(rng, at_least=num_frames)
    shown = _frames_with_first(rng, len(scenes), num_frames)
    word = question.options[question.answer or 0]
    return _exercise(scenes, shown, Question(question.text, options=(word,)), word)


def answer_whether(rng: np.random.Generator, *, num_frames: int) -> Exercise:
    """Ask what is answered by yes or no in plain words: whether any of the frames shows something."""
    shown, text, fitting = _described(rng, WHETHER_TEMPLATES, num_frames=num_frames)
    return Exercise(
        frames=tuple(words_of(scene) for scene in shown),
        prompt=_ANSWERER.answerer(Question(text)),
        target="yes" if any(fitting) else "no",
        relevant=fitting,
    )


def judge_sentence(rng: np.random.Generator) -> Exercise:
    """Ask whether one frame shows what a sentence describes."""
    (shown,), text, fitting = _described(rng, SENTENCE_TEMPLATES, num_frames=1)
    return Exercise((words_of(shown),), _MOMENT.localizer(Question(text)), "yes" if fitting[0] else "no", fitting)


def judge_question(rng: np.random.Generator, *, num_options: int = NUM_OPTIONS) -> Exercise:
    """Ask whether one frame has the details to answer a question.

    Args:
        num_options: none are shown where there is only one.
    """
    scenes, question = _scenes_and_question(rng, num_options=max(2, num_options))
    yes = bool(rng.random() < 0.5)
    shown = scenes[0] if yes else scenes[int(rng.integers(1, len(scenes)))]
    asked = question if num_options > 1 else Question(question.text)
    return Exercise((words_of(shown),), _ANSWERER.localizer(asked), "yes" if yes else "no", (yes,))


def _described(
    rng: np.random.Generator, templates: Templates, *, num_frames: int
) -> tuple[list[Scene], str, tuple[bool, ...]]:
    """Return scenes, a text, and which of the scenes it fits; wrong ones often share a part with what is described."""
    scenes = list(_scenes(rng, at_least=num_frames))
    described, other = scenes[0], scenes[1]
    template = int(rng.integers(len(templates)))
    shape, colour = (str(rng.choice([getattr(scene, name) for scene in (described, other)])) for name in _NAMED)
    near = Scene(shape, colour, other.place, other.motion)
    scenes[0] = (described, near, other)[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
    shown = [scenes[index] for index in rng.permutation(num_frames)]
    fitting = tuple(fits(scene, described, template, templates) for scene in shown)
    return shown, describe(described, template, templates), fitting


def _exercise(scenes: Sequence[Scene], shown: list[int], question: Question, target: str) -> Exercise:
    is_open = question.answer is None
    return Exercise(
        frames=tuple(words_of(scenes[index]) for index in shown),
        prompt=_ANSWERER.answerer(Question(question.text) if is_open else question),
        target=target,
        relevant=tuple(index == 0 for index in shown),
        options=() if is_open else question.options,
        word=question.options[question.answer or 0],
    )


def _scenes(rng: np.random.Generator, *, at_least: int = MIN_SCENES) -> Sequence[Scene]:
    count = int(rng.integers(max(at_least, MIN_SCENES), MAX_SCENES + 1))
    return draw_scenes(rng, [SCENE_S * (number + 1) for number in range(count)])


def _scenes_and_question(
    rng: np.random.Generator, *, at_least: int = MIN_SCENES, num_options: int = NUM_OPTIONS
) -> tuple[Sequence[Scene], Question]:
    scenes = _scenes(rng, at_least=at_least)
    topics = [(key, asked) for key, asked in TOPICS if num_options <= len(VALUES[asked])]
    key, asked = topics[int(rng.integers(len(topics)))]
    return scenes, ask(scenes[0], scenes[1:], key=key, asked=asked, rng=rng, num_options=num_options)


def _frames_with_first(rng: np.random.Generator, num_scenes: int, num_frames: int) -> list[int]:
    # Half of the time one frame of four holds the fact; else any number of them, as a good Localizer chooses.
    if num_frames == 1 or rng.random() < 0.5:
        others = 1 + rng.permutation(num_scenes - 1)[: num_frames - 1]
        return rng.permutation([0, *others]).tolist()
    shown = rng.integers(num_scenes, size=num_frames)
    shown[rng.integers(num_frames)] = 0
    return (np.sort(shown) if rng.random() < 0.5 else shown).tolist()
