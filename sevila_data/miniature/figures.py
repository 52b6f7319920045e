"""What the miniature's runs reached: kept per question for each seed, summed up over seeds, and written as Markdown."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common.files import write_text
from lavis.tasks.metrics.accuracy import AccuracyReport, Outcome, accuracy_report, interval
from sevila_data.miniature.questions import ASKED

_RESAMPLES = 2000
_BEST = "localizer, pre-trained and refined"
_MOST_MINUTES = 90
_ADDS = (
    "pre-training over none",
    "refinement over none",
    "both stages over refinement alone",
    "both stages over pre-training alone",
)
MOMENT_SCORES = ("R1@0.5", "R1@0.7", "mAP")
_HEAD = """# The paper in miniature

Written by `run_scripts/sevila/miniature.sh` ({videos} test videos, {questions} questions of {options} options, so
chance is {chance:.0f} %). Accuracy in percent, averaged over the stages' seeds ({seeds}), with 95 % intervals
bootstrapped over videos. The world is synthetic: coloured shapes that move over patterned grounds, rendered to H.264
and read back by the usual reader.

The base (language model, vision tower, prompters) is trained from nothing, once, and shared by all seeds. The language
model learns the prompts, the Localizer's too, from words in place of frames; the vision tower from dense labels of what
is where in a picture; the prompter to say the words of captions. Localizer and Answerer start as two copies of that
prompter. No label of whether a picture is relevant to a question is used before the stages. Unless a line says
otherwise, answers come from the Answerer that was tuned on localized frames, reading four of {frames} frames.

{remark}
"""

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
        return {name: dataclasses.asdict(_report(found, first)) for name, found in marks.items()}

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
    pairs = {
        "both stages over uniform": (_BEST, "uniform"),
        "both stages over none": (_BEST, "localizer, untrained"),
        "pre-training over none": ("localizer, pre-trained", "localizer, untrained"),
        "refinement over none": ("localizer, refined only", "localizer, untrained"),
        "both stages over refinement alone": (_BEST, "localizer, refined only"),
        "both stages over pre-training alone": (_BEST, "localizer, pre-trained"),
        "no stage over uniform": ("localizer, untrained", "uniform"),
        "one frame alone over the same among four": ("oracle, one frame", "oracle's one among four"),
    }
    if _BEST in runs:
        del pairs["no stage over uniform"]
    made = {name: pair for name, pair in pairs.items() if runs.keys() >= set(pair)}
    return {name: difference(runs[first], runs[second], videos) for name, (first, second) in made.items()}


def _average(marks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in marks])) for name in marks[0]}


def _percent(marks: Marks) -> float:
    return 100 * float(np.mean(list(marks.values())))


def _report(marks: Marks, about: Measured) -> AccuracyReport:
    outcomes = [Outcome(question, mark, about.kinds[question]) for question, mark in marks.items()]
    return accuracy_report(outcomes, clusters=[about.videos[question] for question in marks], resamples=_RESAMPLES)


def render_table(figures: Mapping[str, Any], *, frames: int = 32, options: int = 5, head: str = _HEAD) -> str:
    """Return the whole note for the figures that `summarise` returned; `head` says how they were made."""
    began = head.format(
        seeds=", ".join(map(str, figures["seeds"])),
        videos=figures["videos"],
        questions=figures["questions"],
        options=options,
        chance=100 / options,
        frames=frames,
        remark=figures["remark"],
    )
    parts = [began, _selections(figures), _difference_table(figures)]
    if figures["answerers"]:
        parts += [_answerers(figures), _keyframes(figures), _moments(figures), _targets(figures)]
    parts.append(_times(figures))
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _selections(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, run in figures["runs"].items():
        types = [f"{run['by_type'][kind]['percent']:.1f}" for kind in ASKED]
        hit, seeds = figures["inside"][name], [f"{percent:.1f}" for percent in figures["by_seed"][name]]
        rows.append([name, _bounded(run["overall"]), *types, f"{hit:.1f}", " ".join(seeds)])
    titles = ["four frames chosen by", "accuracy", *ASKED, "one inside", "accuracy by seed"]
    return "## Which frames\n\n" + _markdown(titles, rows)


def _difference_table(figures: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{points:+.1f} [{low:+.1f}, {high:+.1f}]", "yes" if low > 0 or high < 0 else "no"]
        for name, (points, low, high) in figures["differences"].items()
    ]
    return "## What each step adds\n\n" + _markdown(["on the same questions", "points", "beyond the interval"], rows)


def _answerers(figures: Mapping[str, Any]) -> str:
    rows = [[*name.split(" / "), _bounded(found)] for name, found in figures["answerers"].items()]
    return "## Answerer tuned on, tested on (the paper's table 8)\n\n" + _markdown(
        ["tuned on", "read", "accuracy"], rows
    )


def _keyframes(figures: Mapping[str, Any]) -> str:
    rows = [[count, _bounded(found)] for count, found in figures["keyframes"].items()]
    return "## How many keyframes\n\n" + _markdown(["K", "accuracy"], rows)


def _moments(figures: Mapping[str, Any]) -> str:
    rows = [[name, *(f"{found[score]:.1f}" for score in MOMENT_SCORES)] for name, found in figures["moments"].items()]
    return "## Moments\n\n" + _markdown(["Localizer", *MOMENT_SCORES], rows)


def _targets(figures: Mapping[str, Any]) -> str:
    """Hold the figures against what the miniature is meant to show."""
    percent = {name: run["overall"]["percent"] for name, run in figures["runs"].items()}
    best, oracle = percent[_BEST], percent["oracle"]
    gain = best - percent["uniform"]
    binding = figures["differences"]["one frame alone over the same among four"][0]
    added = {name: figures["differences"][name] for name in _ADDS}
    checks = [
        ("oracle at least 85 %", f"{oracle:.1f} %", oracle >= 85),
        ("one fact of four frames within 5 points of one frame", f"{binding:+.1f} points", binding <= 5),
        ("both stages at least 15 points over uniform", f"{gain:+.1f} points", gain >= 15),
        ("both stages at least 0.9 of the oracle", f"{best / oracle:.2f}", best >= 0.9 * oracle),
        *(
            (f"{name}: beyond the interval", f"{points:+.1f} points", low > 0)
            for name, (points, low, _) in added.items()
        ),
    ]
    rows = [[name, found, "met" if met else "missed"] for name, found, met in checks]
    rows.append(_time_row(figures["seconds"]))
    return "## Targets\n\n" + _markdown(["target", "found", ""], rows)


def _time_row(seconds: Mapping[str, Any]) -> list[str]:
    """Hold the time of the first seed against its target; language model and vision tower are made side by side."""
    shared, first = seconds["shared"], seconds["seeds"][0]
    minutes = (max(shared["language"], shared["data"] + shared["vision"]) + shared["base"] + sum(first.values())) / 60
    title = f"at most {_MOST_MINUTES} minutes from nothing for one seed"
    return [title, f"{minutes:.0f} minutes", "met" if minutes <= _MOST_MINUTES else "missed"]


def _times(figures: Mapping[str, Any]) -> str:
    shared, seeds = figures["seconds"]["shared"], figures["seconds"]["seeds"]
    rows = [[name, f"{seconds / 60:.1f}"] for name, seconds in shared.items()]
    rows += [[name, " ".join(f"{seed[name] / 60:.1f}" for seed in seeds)] for name in seeds[0]]
    return "## Time\n\n" + _markdown(["part", "minutes (of each seed)"], rows)


def _bounded(estimate: Mapping[str, float]) -> str:
    return f"{estimate['percent']:.1f} [{estimate['low']:.1f}, {estimate['high']:.1f}]"


def _markdown(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
