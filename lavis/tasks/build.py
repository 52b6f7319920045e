"""From the names in a configuration to the objective that trains and the reading that validates."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import lavis.tasks.objectives  # noqa: F401  # declares the objectives
from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.registry import registry
from lavis.processors.prompts import Prompt
from lavis.tasks.objectives.answerer import (
    AnswererFinetuning,
    LocalizedTrainingFrames,
    RandomTrainingFrames,
    TrainingFrames,
    UniformTrainingFrames,
)
from lavis.tasks.objectives.base import Objective
from lavis.tasks.objectives.frozen_tokens import LocalizerTokens, WatchedTokens
from lavis.tasks.objectives.localizer import LocalizerPretraining, SelfRefinement
from lavis.tasks.objectives.verdicts import FreshVerdicts, Verdicts
from lavis.tasks.published import PRETRAINING, PUBLISHED_TASKS, PublishedTask, translate

# Our own, readable names of the stages; `model.task` takes these and the published strings.
TASKS: dict[str, PublishedTask] = {
    "localizer_pretraining": PRETRAINING,
    "self_refinement": translate("train_loc_freeze_qa_vid"),
    "answerer_finetuning": translate("qvh_freeze_loc_train_qa_with_loc_train_qa_vid"),
    "answerer_finetuning_uniform": translate("train_qa_vid"),
    "answerer_finetuning_voting": translate("train_qa"),
    "chained_inference": translate("qvh_freeze_loc_freeze_qa_vid"),
    "uniform_inference": translate("freeze_qa_vid"),
    "voting_inference": translate("freeze_qa"),
}

# The architecture of the published moment localizer: whatever its task string says, it pre-trains the Localizer.
PRETRAINING_ARCH = "blip2_fmr"

_TRAINING_FRAMES: dict[str, Callable[[int, Prompt, "Frozen"], TrainingFrames]] = {
    "all": lambda _count, _prompt, _frozen: TrainingFrames(),
    "uniform": lambda count, _prompt, _frozen: UniformTrainingFrames(num_keyframes=count),
    "random": lambda count, _prompt, _frozen: RandomTrainingFrames(num_keyframes=count),
    "localizer": lambda count, prompt, frozen: LocalizedTrainingFrames(
        num_keyframes=count, prompt=prompt, verdicts=frozen.verdicts, tokens=frozen.tokens
    ),
}


@dataclass(frozen=True)
class Frozen:
    """Where an objective finds what its frozen role makes of frames."""

    verdicts: Verdicts = field(default_factory=FreshVerdicts)
    tokens: LocalizerTokens = field(default_factory=WatchedTokens)


def resolve_task(
    name: str,
    *,
    arch: str = "sevila",
    selector: str | None = None,
    reader: str | None = None,
    training_selector: str | None = None,
) -> PublishedTask:
    """Return what a task name means, with single choices replaced where they are given.

    Args:
        name: one of `TASKS` or a published string.
        arch: "sevila", or the published "blip2_fmr".

    Raises:
        ConfigError: an unknown name.
    """
    if arch not in ("sevila", PRETRAINING_ARCH):
        raise ConfigError(f"unknown model.arch {arch!r}; {did_you_mean(arch, ('sevila', PRETRAINING_ARCH))}")
    if arch != PRETRAINING_ARCH and name not in TASKS and name not in PUBLISHED_TASKS:
        raise ConfigError(f"unknown task {name!r}; {did_you_mean(name, [*TASKS, *PUBLISHED_TASKS])}")
    task = PRETRAINING if arch == PRETRAINING_ARCH else TASKS.get(name) or translate(name)
    if training_selector is not None and training_selector not in _TRAINING_FRAMES:
        known = did_you_mean(training_selector, _TRAINING_FRAMES)
        raise ConfigError(f"unknown model.training_selector {training_selector!r}; {known}")
    if selector is None and reader is None and training_selector is None:
        return task
    return replace(
        task,
        selector=selector or task.selector,
        reader=reader or task.reader,
        training_selector=training_selector or task.training_selector,
    )


def require_objective(task: PublishedTask) -> str:
    """Return the name of what a task trains on.

    Raises:
        ConfigError: it only evaluates.
    """
    if task.objective is None:
        raise ConfigError(f"this model.task only evaluates; to train, use one of: {', '.join(_training_tasks())}")
    return task.objective


def build_objective(task: PublishedTask, *, prompt: str, num_keyframes: int, frozen: Frozen | None = None) -> Objective:
    """Build what is trained on.

    Args:
        prompt: how the dataset's questions are worded, a name in `registry.prompts`.
        num_keyframes: K, for objectives that choose frames.
        frozen: what is kept of the frozen role; None runs it in every epoch.

    Raises:
        ConfigError: the task only evaluates, or a name is unknown.
    """
    kind = registry.objectives.get(require_objective(task))
    worded: Prompt = registry.prompts.get(prompt)()
    frozen = frozen or Frozen()
    if kind is LocalizerPretraining:
        return LocalizerPretraining(prompt=worded)
    if kind is SelfRefinement:
        return SelfRefinement(localizer_prompt=worded, answerer_prompt=worded, verdicts=frozen.verdicts)
    if kind is AnswererFinetuning:
        frames = _TRAINING_FRAMES[task.training_selector](num_keyframes, worded, frozen)
        return AnswererFinetuning(frames=frames, reader=registry.frame_readers.get(task.reader)(), prompt=worded)
    objective: Objective = kind(prompt=worded)
    return objective


def count_keyframes(task: PublishedTask, *, frame_num: int, num_frames: int) -> int:
    """Return how many of `num_frames` frames are read when the task answers."""
    if task.keyframes == "one":
        return 1
    return num_frames if task.keyframes == "all" else min(frame_num, num_frames)


def _training_tasks() -> list[str]:
    return [name for name, task in {**TASKS, **PUBLISHED_TASKS}.items() if task.objective]
