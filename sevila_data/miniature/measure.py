"""The figures of the miniature's table: which frames help, which stages help, and how many frames it takes."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from lavis.common.files import write_text
from lavis.models.pipeline import WatchedVideo
from lavis.models.selectors import RandomSelector, UniformSelector, WindowsSelector
from sevila_data.miniature.evaluate import NUM_FRAMES, Asked, HeldOut, best_positions
from sevila_data.miniature.figures import Measured
from sevila_data.miniature.stages import Run

logger = logging.getLogger(__name__)

# The Localizer after each way to train it, as stages laid over the base.
LOCALIZERS: dict[str, tuple[str, ...]] = {
    "untrained": (),
    "pre-trained": ("pretrain",),
    "refined only": ("refine_only",),
    "pre-trained and refined": ("refine",),
}
BEST = "pre-trained and refined"
# The Answerer after each way to train it; the last is the one that reads wherever nothing else is said.
ANSWERERS: dict[str, tuple[str, ...]] = {
    "nothing (base)": (),
    "random frames": ("finetune_random",),
    "localized frames": ("finetune",),
}
KEYFRAMES = (1, 2, 4, 8)


def measure_run(run: Run, *, max_videos: int | None = None) -> Measured:
    """Measure everything on the test split."""
    split = HeldOut(run.experiment / "data", max_videos=max_videos)
    found = {name: localize(run, split, name) for name in LOCALIZERS}
    scores = {name: row["scores"] for name, row in found.items()}
    answerers: dict[str, Asked] = {}
    for name, stages in ANSWERERS.items():
        watched = split.watch(run.model(*stages))
        answerers[f"{name} / uniform"] = split.read(watched, split.select(watched, UniformSelector(), 4))
        answerers[f"{name} / localized"] = split.read(watched, best_positions(scores[BEST], 4))
    runs = {f"localizer, {name}": split.read(watched, best_positions(row, 4)) for name, row in scores.items()}
    runs |= _without_localizer(split, watched)
    counts = {str(count): split.read(watched, best_positions(scores[BEST], count)) for count in KEYFRAMES}
    for name, asked in runs.items():
        logger.info("%s: %.1f %%", name, 100 * sum(asked.right.values()) / len(asked.right))
    return Measured(
        videos=split.video_of,
        kinds=split.kind_of,
        runs=_marks(runs),
        inside={name: asked.inside for name, asked in runs.items()},
        answerers=_marks(answerers),
        keyframes=_marks(counts),
        moments={name: row["moments"] for name, row in found.items()},
    )


def localize(run: Run, split: HeldOut, name: str) -> dict[str, Any]:
    """Return a Localizer's scores of all frames and its moments, kept in a file.

    What no stage has touched is the same for all seeds, and scored once.
    """
    stages = LOCALIZERS[name]
    file = (run.folder if stages else run.experiment) / "localizers" / f"{name.replace(' ', '_')}.json"
    if not file.is_file():
        watched = split.watch(run.model(*stages))
        moments = split.find(watched)
        shown = {
            "R1@0.5": moments.recall_at_1[0.5],
            "R1@0.7": moments.recall_at_1[0.7],
            "mAP": moments.mean_average_precision,
        }
        write_text(file, json.dumps({"scores": split.score(watched), "moments": shown}) + "\n")
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def _without_localizer(split: HeldOut, watched: Mapping[str, WatchedVideo]) -> dict[str, Asked]:
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


def _marks(asked: Mapping[str, Asked]) -> dict[str, dict[str, float]]:
    return {name: row.right for name, row in asked.items()}
