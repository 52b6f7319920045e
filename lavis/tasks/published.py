"""The published `model.task=` strings, and what each of them means.

People's scripts pass these strings. They are translated here and nowhere else; everything beyond
knows only objectives, roles, selectors and readers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lavis.common.errors import ConfigError, did_you_mean
from lavis.models.chain import SelectorSpec


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
        training_selector: which frames the Answerer learns from.
        has_localizer: whether the published model of this task holds a Localizer.
    """

    objective: str | None = None
    trains: str | None = None
    selector: SelectorSpec = "localizer"
    reader: str = "joint"
    keyframes: str = "frame_num"
    training_selector: SelectorSpec = "all"
    has_localizer: bool = True


_CHAIN = PublishedTask()
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
    "freeze_qa_vid": PublishedTask(selector="uniform", keyframes="all", has_localizer=False),
    "freeze_qa": PublishedTask(selector="uniform", reader="per_frame", keyframes="all", has_localizer=False),
    "train_qa_vid": PublishedTask(
        objective="answerer_finetuning", trains="answerer", selector="uniform", keyframes="all", has_localizer=False
    ),
    "train_qa": PublishedTask(
        objective="answerer_finetuning",
        trains="answerer",
        selector="uniform",
        reader="per_frame",
        keyframes="all",
        has_localizer=False,
    ),
}

# The published code sets `requires_grad` on modules, which does nothing: these parts of both roles stay trainable.
_NEVER_FROZEN = re.compile(r"(ln_vision(_loc)?|t5_proj(_loc)?)\..*")
_ROLE = {
    "localizer": re.compile(r"(query_tokens_loc|Qformer_loc\..*)"),
    "answerer": re.compile(r"(query_tokens|Qformer\..*)"),
}
_LOCALIZER_ONLY = re.compile(r"(query_tokens_loc|(Qformer_loc|t5_proj_loc)\..*)")
_ANSWERER = re.compile(r"(query_tokens|(Qformer|ln_vision|t5_proj)\..*|visual_encoder\..*)")


def translate(task: str) -> PublishedTask:
    """Return what a published task string means.

    Raises:
        ConfigError: the string is not one of those that mean something clear; the message lists them.
    """
    if task not in PUBLISHED_TASKS:
        raise ConfigError(f"unknown task {task!r}; {did_you_mean(task, PUBLISHED_TASKS)}")
    return PUBLISHED_TASKS[task]


def trained_by_published_code(task: PublishedTask, names: Iterable[str]) -> set[str]:
    """Return the published parameter names that the published code leaves trainable, as it does by mistake too.

    It means to train one role's Q-Former and queries, but never freezes LayerNorms and projections.
    """
    role = _ROLE.get(task.trains or "")
    held = [name for name in names if task.has_localizer or not _LOCALIZER_ONLY.fullmatch(name)]
    if task is PRETRAINING:
        held = [name for name in held if not _ANSWERER.fullmatch(name)]
    return {name for name in held if _NEVER_FROZEN.fullmatch(name) or (role and role.fullmatch(name))}
