"""From the names in a configuration, ours and the published `model.task=` strings, to what trains and what is read.

People's scripts pass these strings. They are translated here and nowhere else; everything beyond
knows only objectives, roles, selectors and packings.
"""

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.registry import registry
from lavis.models.chain import SelectorSpec, check_selector
from lavis.tasks.objectives import ClipMemory, Objective, Teacher


@dataclass(frozen=True, kw_only=True)
class PublishedTask:
    """What a published task string asks for.

    Attributes:
        objective: what is trained on, by name in `registry.objectives`; None only evaluates.
        trains: the role that learns; None for none.
        selector: which frames are read; see `lavis.models.chain.SelectorSpec`.
        reader: how they are read, by name in `registry.frame_packings`.
        keyframes: "frame_num" reads as many frames as `model.frame_num` says, "one" the single best,
            "all" every sampled frame.
        training_selector: which frames the Answerer learns from; None is `selector`, which learns itself.
        has_localizer: whether the published model of this task holds a Localizer.
    """

    objective: str | None = None
    trains: str | None = None
    selector: SelectorSpec = "localizer"
    reader: str = "joint"
    keyframes: str = "frame_num"
    training_selector: SelectorSpec | None = "all"
    has_localizer: bool = True

    @property
    def learns_from(self) -> SelectorSpec:
        """Which frames are chosen in training."""
        return self.selector if self.training_selector is None else self.training_selector


_CHAIN = PublishedTask()
_UNIFORM = PublishedTask(selector="uniform", keyframes="all", has_localizer=False)
_UNIFORM_FINETUNING = replace(_UNIFORM, objective="answerer_finetuning", trains="answerer")
PRETRAINING = PublishedTask(objective="localizer_pretraining", trains="localizer", reader="per_frame", keyframes="all")

PUBLISHED_TASKS: dict[str, PublishedTask] = {
    "qvh_freeze_loc_freeze_qa_vid": _CHAIN,
    "freeze_loc_freeze_qa_vid": _CHAIN,
    "qvh_freeze_loc_freeze_qa": PublishedTask(reader="per_frame", keyframes="one"),
    "train_loc_freeze_qa_vid": PublishedTask(objective="self_refinement", trains="localizer"),
    "qvh_freeze_loc_train_qa_with_loc_train_qa_vid": PublishedTask(
        objective="answerer_finetuning", trains="answerer", training_selector="localizer"
    ),
    "qvh_freeze_loc_train_qa_wo_loc_train_qa_vid": PublishedTask(objective="answerer_finetuning", trains="answerer"),
    "qvh_freeze_loc_freeze_qa_vid_uni_eval": PublishedTask(selector="uniform", keyframes="all"),
    "freeze_qa_vid": _UNIFORM,
    "freeze_qa": replace(_UNIFORM, reader="per_frame"),
    "train_qa_vid": _UNIFORM_FINETUNING,
    "train_qa": replace(_UNIFORM_FINETUNING, reader="per_frame"),
}

# The published code sets `requires_grad` on modules, which does nothing: these parts of both roles stay trainable.
_NEVER_FROZEN = re.compile(r"(ln_vision(_loc)?|t5_proj(_loc)?)\..*")
_ROLE = {
    "localizer": re.compile(r"(query_tokens_loc|Qformer_loc\..*)"),
    "answerer": re.compile(r"(query_tokens|Qformer\..*)"),
}
_LOCALIZER_ONLY = re.compile(r"(query_tokens_loc|(Qformer_loc|t5_proj_loc)\..*)")
_ANSWERER = re.compile(r"(query_tokens|(Qformer|ln_vision|t5_proj)\..*|visual_encoder\..*)")


def trained_by_published_code(task: PublishedTask, names: Iterable[str]) -> set[str]:
    """Return the published parameter names that the published code leaves trainable, as it does by mistake too.

    It means to train one role's Q-Former and queries, but never freezes LayerNorms and projections.
    """
    role = _ROLE.get(task.trains or "")
    held = [name for name in names if task.has_localizer or not _LOCALIZER_ONLY.fullmatch(name)]
    if task == PRETRAINING:
        held = [name for name in held if not _ANSWERER.fullmatch(name)]
    return {name for name in held if _NEVER_FROZEN.fullmatch(name) or (role and role.fullmatch(name))}


# Our own, readable names of the stages; `model.task` takes these and the published strings.
TASKS: dict[str, PublishedTask] = {
    "localizer_pretraining": PRETRAINING,
    "self_refinement": PUBLISHED_TASKS["train_loc_freeze_qa_vid"],
    "answerer_finetuning": PUBLISHED_TASKS["qvh_freeze_loc_train_qa_with_loc_train_qa_vid"],
    "answerer_finetuning_uniform": PUBLISHED_TASKS["train_qa_vid"],
    "answerer_finetuning_voting": PUBLISHED_TASKS["train_qa"],
    "learn_selector": PublishedTask(objective="learn_selector", selector="atp", training_selector=None),
    "learn_selector_and_answerer": PublishedTask(
        objective="learn_selector_and_answerer", trains="answerer", selector="atp", training_selector=None
    ),
    "chained_inference": PUBLISHED_TASKS["qvh_freeze_loc_freeze_qa_vid"],
    "uniform_inference": PUBLISHED_TASKS["freeze_qa_vid"],
    "voting_inference": PUBLISHED_TASKS["freeze_qa"],
}

# The architecture of the published moment localizer: whatever its task string says, it pre-trains the Localizer.
PRETRAINING_ARCH = "blip2_fmr"

# Short names of `model.training_selector` that mean something else than elsewhere: training draws anew each time.
_TRAINING_SELECTORS: dict[str, SelectorSpec] = {"random": {"policy": {"name": "random", "seed": None}}}


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
    given: dict[str, Any] = {"selector": selector, "reader": reader, "training_selector": training_selector}
    return replace(task, **{key: value for key, value in given.items() if value is not None})


def require_objective(task: PublishedTask) -> str:
    """Return the name of what a task trains on.

    Raises:
        ConfigError: it only evaluates.
    """
    if task.objective is None:
        training = [name for name, one in {**TASKS, **PUBLISHED_TASKS}.items() if one.objective]
        raise ConfigError(f"this model.task only evaluates; to train, use one of: {', '.join(training)}")
    return task.objective


def build_objective(
    task: PublishedTask,
    *,
    prompt: str,
    num_keyframes: int,
    teacher: Teacher | None = None,
    memory: ClipMemory | None = None,
) -> Objective:
    """Build what is trained on.

    Args:
        prompt: how the dataset's questions are worded, a name in `registry.prompts`.
        num_keyframes: K, for objectives that choose frames.
        teacher: what the frozen role says; None asks it in every epoch.
        memory: what is kept of what it reads; None keeps nothing.

    Raises:
        ConfigError: the task only evaluates, or a name is unknown.
    """
    kind: Any = registry.objectives.get(require_objective(task))
    selector = task.learns_from
    offered = {
        "prompt": prompt,
        "k": num_keyframes,
        "selector": _TRAINING_SELECTORS.get(selector, selector) if isinstance(selector, str) else selector,
        "packing": task.reader,
        "teacher": teacher,
        "memory": memory,
    }
    wanted = inspect.signature(kind).parameters
    objective: Objective = kind(**{name: value for name, value in offered.items() if name in wanted})
    return objective


def count_keyframes(task: PublishedTask, *, frame_num: int, num_frames: int) -> int:
    """Return how many of `num_frames` frames are read when the task answers."""
    if task.keyframes == "one":
        return 1
    return num_frames if task.keyframes == "all" else min(frame_num, num_frames)
