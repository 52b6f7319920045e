"""What the miniature's runs reached: kept per question for each seed, then summed up over seeds."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common.files import write_text
from lavis.tasks.metrics.accuracy import AccuracyReport, Outcome, accuracy_report
from lavis.tasks.metrics.bootstrap import interval

_RESAMPLES = 2000

Marks = dict[str, float]
"""Question id -> 1 where it was answered right, 0 where wrong; between them, the share of seeds."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the models of one seed reached on the test videos.

    Attributes:
        videos: question id -> video.
        kinds: question id -> type.
        runs: marks of each way to choose frames, read by the best Answerer.
        inside: of each run, the percentage of questions with at least one of the frames inside the windows.
        answerers: marks of each "tuned on / read".
        keyframes: marks for each number of keyframes.
        moments: each Localizer's moment scores.
    """

    videos: dict[str, str]
    kinds: dict[str, str]
    runs: dict[str, Marks]
    inside: dict[str, float]
    answerers: dict[str, Marks]
    keyframes: dict[str, Marks]
    moments: dict[str, dict[str, float]]

    def save(self, file: Path) -> None:
        """Write as JSON."""
        write_text(file, json.dumps(dataclasses.asdict(self)) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Measured":
        """Read what `save` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


def summarise(seeds: Sequence[Measured]) -> dict[str, Any]:
    """Average all seeds, question by question, with 95 % intervals over videos."""
    first = seeds[0]

    def reports(field: str) -> dict[str, dict[str, Any]]:
        names: Mapping[str, Marks] = getattr(first, field)
        marks = {name: _average([getattr(seed, field)[name] for seed in seeds]) for name in names}
        return {name: _report(found, first).as_dict() for name, found in marks.items()}

    runs = {name: _average([seed.runs[name] for seed in seeds]) for name in first.runs}
    return {
        "videos": len(set(first.videos.values())),
        "questions": len(first.videos),
        "runs": reports("runs"),
        "by_seed": {name: [_percent(seed.runs[name]) for seed in seeds] for name in first.runs},
        "inside": {name: float(np.mean([seed.inside[name] for seed in seeds])) for name in first.inside},
        "answerers": {name: report["overall"] for name, report in reports("answerers").items()},
        "keyframes": {name: report["overall"] for name, report in reports("keyframes").items()},
        "moments": {name: _average([seed.moments[name] for seed in seeds]) for name in first.moments},
        "differences": _differences(runs, first.videos),
    }


def difference(first: Marks, second: Marks, videos: Mapping[str, str]) -> tuple[float, float, float]:
    """Return how many points the first run is above the second, with the 95 % interval over videos.

    Args:
        videos: question id -> video.
    """
    place = {name: index for index, name in enumerate(sorted(set(videos.values())))}
    gains, counts = np.zeros(len(place)), np.zeros(len(place))
    for question, name in videos.items():
        gains[place[name]] += first[question] - second[question]
        counts[place[name]] += 1
    drawn = np.random.default_rng(0).integers(len(place), size=(_RESAMPLES, len(place)))
    samples = 100 * gains[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return 100 * float(gains.sum() / counts.sum()), *interval(samples)


def _differences(runs: Mapping[str, Marks], videos: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    best = runs["localizer, pre-trained and refined"]
    pairs = {
        "both stages over uniform": (best, runs["uniform"]),
        "both stages over none": (best, runs["localizer, untrained"]),
        "pre-training over none": (runs["localizer, pre-trained"], runs["localizer, untrained"]),
        "refinement over none": (runs["localizer, refined only"], runs["localizer, untrained"]),
        "both stages over refinement alone": (best, runs["localizer, refined only"]),
        "both stages over pre-training alone": (best, runs["localizer, pre-trained"]),
        "one frame alone over the same among four": (runs["oracle, one frame"], runs["oracle's one among four"]),
    }
    return {name: difference(first, second, videos) for name, (first, second) in pairs.items()}


def _average(marks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in marks])) for name in marks[0]}


def _percent(marks: Marks) -> float:
    return 100 * float(np.mean(list(marks.values())))


def _report(marks: Marks, about: Measured) -> AccuracyReport:
    outcomes = [Outcome(question, mark, about.kinds[question]) for question, mark in marks.items()]
    return accuracy_report(outcomes, clusters=[about.videos[question] for question in marks], resamples=_RESAMPLES)
