"""The figures of the miniature's table: which frames help, which stages help, and how many frames it takes."""

import logging
from typing import TYPE_CHECKING, Any

from lavis.models.pipeline import WatchedVideo
from sevila_data.miniature.evaluate import Asked, HeldOut, difference, keyframes_inside

if TYPE_CHECKING:
    from sevila_data.miniature.experiment import Experiment

logger = logging.getLogger(__name__)

# The Localizer after each way to train it, as stages laid over the base.
LOCALIZERS: dict[str, tuple[str, ...]] = {
    "untrained": (),
    "pre-trained": ("pretrain",),
    "refined only": ("refine_only",),
    "pre-trained and refined": ("refine",),
}
BEST = "pre-trained and refined"
# The Answerer after each way to train it.
ANSWERERS: dict[str, tuple[str, ...]] = {
    "base": (),
    "random frames": ("finetune_random",),
    "localized frames": ("finetune",),
}
KEYFRAMES = (1, 2, 4, 8)


def measure_all(experiment: "Experiment", *, max_videos: int | None = None) -> dict[str, Any]:
    """Measure everything on the test split; answers come from the Answerer tuned on localized frames."""
    split = HeldOut(experiment.folder / "data", max_videos=max_videos)
    runs: dict[str, Asked] = {}
    moments: dict[str, dict[str, Any]] = {}
    inside: dict[str, float] = {}
    for name, stages in LOCALIZERS.items():
        watched = split.watch(experiment.model(*stages, "finetune"))
        runs[f"localizer, {name}"] = _said(f"localizer, {name}", split.ask(watched, selector="localizer"))
        inside[name] = keyframes_inside(watched, split.questions)
        moments[name] = split.find(watched).as_dict()
    runs |= _other_selections(split, watched)
    by_count = {str(count): split.ask(watched, selector="localizer", num_keyframes=count) for count in KEYFRAMES}
    tuned = _answerers(experiment, split)
    return {
        "videos": len(split.questions),
        "questions": sum(map(len, split.questions.values())),
        "runs": {name: run.report.as_dict() for name, run in runs.items()},
        "keyframes_inside": inside,
        "moments": moments,
        "keyframes": {count: run.report.overall.as_dict() for count, run in by_count.items()},
        "answerers": {name: run.report.overall.as_dict() for name, run in tuned.items()},
        "differences": _differences(runs),
    }


def _other_selections(split: HeldOut, watched: dict[str, WatchedVideo]) -> dict[str, Asked]:
    """Measure what needs no Localizer."""
    return {
        "uniform": _said("uniform", split.ask(watched, selector="uniform")),
        "random": _said("random", split.ask(watched, selector="random")),
        "voting, all frames": _said(
            "voting", split.ask(watched, selector="uniform", num_keyframes=32, reader="per_frame")
        ),
        "oracle": _said("oracle", split.ask(watched, selector="windows")),
        "oracle, one frame": _said("oracle, one frame", split.ask(watched, selector="windows", num_keyframes=1)),
        "one frame of the oracle among four": _said("one of four", split.ask_one_of_four(watched)),
    }


def _answerers(experiment: "Experiment", split: HeldOut) -> dict[str, Asked]:
    """Measure each Answerer on uniform and on localized frames (the paper's table 8)."""
    found = {}
    for name, stages in ANSWERERS.items():
        watched = split.watch(experiment.model(*LOCALIZERS[BEST], *stages))
        for selector in ("uniform", "localizer"):
            found[f"{name} / {selector}"] = _said(f"{name} / {selector}", split.ask(watched, selector=selector))
    return found


def _differences(runs: dict[str, Asked]) -> dict[str, tuple[float, float, float]]:
    best = runs[f"localizer, {BEST}"]
    pairs = {
        "both stages over uniform": (best, runs["uniform"]),
        "pre-training over none": (runs["localizer, pre-trained"], runs["localizer, untrained"]),
        "pre-training before refinement over refinement alone": (best, runs["localizer, refined only"]),
        "refinement over none": (runs["localizer, refined only"], runs["localizer, untrained"]),
        "refinement after pre-training over pre-training alone": (best, runs["localizer, pre-trained"]),
        "one frame alone over the same among four": (
            runs["oracle, one frame"],
            runs["one frame of the oracle among four"],
        ),
    }
    return {name: difference(first, second) for name, (first, second) in pairs.items()}


def _said(name: str, asked: Asked) -> Asked:
    logger.info("%s: %.1f %%", name, asked.percent)
    return asked
