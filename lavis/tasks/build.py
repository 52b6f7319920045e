"""From the names in a configuration to the objective that trains and the reading that validates."""

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.registry import registry
from lavis.models.chain import SelectorSpec, check_selector
from lavis.tasks.objectives.base import Objective
from lavis.tasks.objectives.teacher import ClipMemory, OnlineTeacher, Teacher
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

# Short names of `model.training_selector` that mean something else than elsewhere: training draws anew each time.
_TRAINING_SELECTORS: dict[str, SelectorSpec] = {"random": {"policy": {"name": "random", "seed": None}}}


@dataclass(frozen=True)
class Frozen:
    """Where an objective finds what its frozen role makes of frames."""

    teacher: Teacher = field(default_factory=OnlineTeacher)
    memory: ClipMemory | None = None


def resolve_task(
    name: str,
    *,
    arch: str = "sevila",
    selector: SelectorSpec | None = None,
    reader: str | None = None,
    training_selector: SelectorSpec | None = None,
) -> PublishedTask:
    """Return what a task name means, with single choices replaced where they are given.

    Args:
        name: one of `TASKS`, a published string, or an objective of `registry.objectives`, with the published way to
            validate it: the Localizer's keyframes, read at once.
        arch: a name in `registry.models`, or the published "blip2_fmr".

    Raises:
        ConfigError: an unknown name.
    """
    archs = (*registry.models.names(), PRETRAINING_ARCH)
    if arch not in archs:
        raise ConfigError(f"unknown model.arch {arch!r}; {did_you_mean(arch, archs)}")
    known = {
        **{part: PublishedTask(objective=part) for part in registry.objectives.names()},
        **PUBLISHED_TASKS,
        **TASKS,
    }
    if arch != PRETRAINING_ARCH and name not in known:
        raise ConfigError(f"unknown task {name!r}; {did_you_mean(name, known)}")
    task = PRETRAINING if arch == PRETRAINING_ARCH else known[name]
    for key, spec in (("selector", selector), ("training_selector", training_selector)):
        if spec is not None:
            check_selector(spec, place=f"model.{key}: ")
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
    kind: Any = registry.objectives.get(require_objective(task))
    frozen = frozen or Frozen()
    selector = task.training_selector
    offered = {
        "prompt": prompt,
        "k": num_keyframes,
        "selector": _TRAINING_SELECTORS.get(selector, selector) if isinstance(selector, str) else selector,
        "packing": task.reader,
        "teacher": frozen.teacher,
        "memory": frozen.memory,
    }
    wanted = inspect.signature(kind).parameters
    objective: Objective = kind(**{name: value for name, value in offered.items() if name in wanted})
    return objective


def count_keyframes(task: PublishedTask, *, frame_num: int, num_frames: int) -> int:
    """Return how many of `num_frames` frames are read when the task answers."""
    if task.keyframes == "one":
        return 1
    return num_frames if task.keyframes == "all" else min(frame_num, num_frames)


def _training_tasks() -> list[str]:
    return [name for name, task in {**TASKS, **PUBLISHED_TASKS}.items() if task.objective]
