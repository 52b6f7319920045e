"""The figures of the miniature's table: which frames help, which stages help, and how many frames it takes."""

import json
import logging
from typing import TYPE_CHECKING, Any

from lavis.common.files import write_text
from lavis.models.pipeline import WatchedVideo
from lavis.models.selectors import RandomSelector, UniformSelector, WindowsSelector
from sevila_data.miniature.evaluate import NUM_FRAMES, Asked, HeldOut, best_positions, difference

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
    "nothing (base)": (),
    "random frames": ("finetune_random",),
    "localized frames": ("finetune",),
}
TUNED = "localized frames"
KEYFRAMES = (1, 2, 4, 8)


def localize(experiment: "Experiment", split: HeldOut, name: str) -> dict[str, Any]:
    """Return a Localizer's scores of all frames and its moments, kept in the experiment's folder."""
    file = experiment.folder / "localizers" / f"{name.replace(' ', '_')}.json"
    if not file.is_file():
        watched = split.watch(experiment.model(*LOCALIZERS[name]))
        found = {"scores": split.score(watched), "moments": split.find(watched).as_dict()}
        write_text(file, json.dumps(found) + "\n")
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def measure_all(experiment: "Experiment", *, max_videos: int | None = None) -> dict[str, Any]:
    """Measure everything on the test split; answers come from the Answerer tuned on localized frames."""
    split = HeldOut(experiment.folder / "data", max_videos=max_videos)
    found = {name: localize(experiment, split, name) for name in LOCALIZERS}
    tuned: dict[str, Asked] = {}
    for name, stages in ANSWERERS.items():
        watched = split.watch(experiment.model(*stages))
        localized = best_positions(found[BEST]["scores"], 4)
        tuned[f"{name} / uniform"] = split.read(watched, split.select(watched, UniformSelector(), 4))
        tuned[f"{name} / localized"] = split.read(watched, localized)
    # The last Answerer is the one that is tuned on localized frames.
    runs = {f"localizer, {name}": split.read(watched, best_positions(row["scores"], 4)) for name, row in found.items()}
    runs |= _without_localizer(split, watched)
    counts = {count: split.read(watched, best_positions(found[BEST]["scores"], count)) for count in KEYFRAMES}
    for name, run in runs.items():
        logger.info("%s: %.1f %%", name, run.report.overall.percent)
    return {
        "videos": len(split.questions),
        "questions": sum(map(len, split.questions.values())),
        "runs": {name: run.report.as_dict() for name, run in runs.items()},
        "inside": {name: run.inside for name, run in runs.items()},
        "moments": {name: row["moments"] for name, row in found.items()},
        "keyframes": {str(count): run.report.overall.as_dict() for count, run in counts.items()},
        "answerers": {name: run.report.overall.as_dict() for name, run in tuned.items()},
        "differences": _differences(runs),
    }


def _without_localizer(split: HeldOut, watched: dict[str, WatchedVideo]) -> dict[str, Asked]:
    """Measure what needs no Localizer."""
    everything = split.select(watched, UniformSelector(), NUM_FRAMES)
    return {
        "uniform": split.read(watched, split.select(watched, UniformSelector(), 4)),
        "random": split.read(watched, split.select(watched, RandomSelector(), 4)),
        "vote of all frames": split.read(watched, everything, reader="per_frame"),
        "oracle": split.read(watched, split.select(watched, WindowsSelector(), 4)),
        "oracle, one frame": split.read(watched, split.select(watched, WindowsSelector(), 1)),
        "oracle's one among four": split.read(watched, split.one_of_four(watched)),
    }


def _differences(runs: dict[str, Asked]) -> dict[str, tuple[float, float, float]]:
    best = runs[f"localizer, {BEST}"]
    pairs = {
        "both stages over uniform": (best, runs["uniform"]),
        "pre-training over none": (runs["localizer, pre-trained"], runs["localizer, untrained"]),
        "refinement over none": (runs["localizer, refined only"], runs["localizer, untrained"]),
        "both stages over refinement alone": (best, runs["localizer, refined only"]),
        "both stages over pre-training alone": (best, runs["localizer, pre-trained"]),
        "one frame alone over the same among four": (runs["oracle, one frame"], runs["oracle's one among four"]),
    }
    return {name: difference(first, second) for name, (first, second) in pairs.items()}
