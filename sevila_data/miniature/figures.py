"""What the miniature's runs reached: kept per question for each seed, summed up over seeds, and written as Markdown."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lavis.common.errors import counted
from lavis.common.files import write_text
from lavis.common.types import Floats
from lavis.tasks.metrics.accuracy import interval
from sevila_data.miniature.questions import ASKED

_RESAMPLES = 2000
_BEST = "localizer, pre-trained and refined"
_MOST_MINUTES = 120
_ADDS = (
    "pre-training over none",
    "refinement over none",
    "refinement alone over pre-training alone",
    "both stages over refinement alone",
    "both stages over pre-training alone",
    "fine-tuning over the base, localized frames",
)
EVIDENCE_SCORES = ("recall", "precision", "AP")
MOMENT_SCORES = ("R1@0.5", "R1@0.7", "mAP")
_HEAD = """# The paper in miniature

Written by `run_scripts/sevila/miniature.sh` ({videos} test videos, {questions} questions of {options} options, so
chance is {chance:.0f} %) on {made_on}.

Accuracy in percent, averaged over {runs} runs: the stages' seeds {seeds} on each of {bases}. The 95 % intervals are of
another draw of bases, seeds and videos (bootstrap at all three levels), and the differences are taken on the same
questions. The world is synthetic: coloured shapes that move over patterned grounds, rendered to H.264 and read back by
the usual reader.

A base (language model, vision tower, prompters) is trained from nothing: the language model from words in place of
frames, the vision tower from dense labels of what is where in a picture, the prompter to say the words of captions.
Localizer and Answerer start as two copies of that prompter. So "untrained" is not zero-shot in words: the language
model has read the Localizer's prompts, about words. What is left for the stages to learn is what videos look like, as
between BLIP-2's pictures and the benchmarks: the base has seen the world by day, and the videos of the stages and of
the test are of the evening, where all hues are turned by {hue:.0f} degrees. No label of whether a picture is relevant
to anything is used before the stages. Unless a line says otherwise, answers come from the Answerer that was tuned on
localized frames, reading four of {frames} frames.

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
        evidence: of each Localizer, how well its scores find the frames inside the windows: `EVIDENCE_SCORES`.
        base: number of the base that these models began as.
    """

    videos: dict[str, str]
    kinds: dict[str, str]
    runs: dict[str, Marks]
    inside: dict[str, float]
    answerers: dict[str, Marks]
    keyframes: dict[str, Marks]
    moments: dict[str, dict[str, float]]
    evidence: dict[str, dict[str, float]]
    base: int = 0

    def save(self, file: Path) -> None:
        """Write as JSON."""
        write_text(file, json.dumps(dataclasses.asdict(self)) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Measured":
        """Read what `save` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


def summarise(runs: Sequence[Measured]) -> dict[str, Any]:
    """Average all runs, question by question, with 95 % intervals over bases, seeds and videos."""
    first = runs[0]
    drawn = Drawn.of(runs)

    def shares(field: str) -> dict[str, dict[str, Any]]:
        names: Mapping[str, Marks] = getattr(first, field)
        return {name: drawn.share([getattr(run, field)[name] for run in runs]) for name in names}

    def by_type(name: str) -> dict[str, float]:
        return {kind: _percent([run.runs[name] for run in runs], first.kinds, kind) for kind in ASKED}

    return {
        "videos": len(set(first.videos.values())),
        "questions": len(first.videos),
        "bases": [run.base for run in runs],
        "runs": {name: {"overall": share, "by_type": by_type(name)} for name, share in shares("runs").items()},
        "by_seed": {name: [_percent([run.runs[name]]) for run in runs] for name in first.runs},
        "inside": {name: float(np.mean([run.inside[name] for run in runs])) for name in first.inside},
        "answerers": shares("answerers"),
        "keyframes": shares("keyframes"),
        "moments": {name: _average([run.moments[name] for run in runs]) for name in first.moments},
        "evidence": {name: _average([run.evidence[name] for run in runs]) for name in first.evidence},
        "differences": _differences(runs, drawn),
    }


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Another draw of everything that was drawn once: bases, the seeds of each, and the videos.

    Shapes: B resamples, R runs, V videos.

    Attributes:
        questions: in the order of all marks.
        column: of each question, its video.
        runs: [B, R], the weight of each run; a row sums to one.
        videos: [B, V], how often each video was drawn.
    """

    questions: tuple[str, ...]
    column: npt.NDArray[np.int64]
    runs: Floats
    videos: npt.NDArray[np.int64]

    @classmethod
    def of(cls, runs: Sequence[Measured]) -> "Drawn":
        """Resample what was measured."""
        rng = np.random.default_rng(0)
        names = sorted(set(runs[0].videos.values()))
        column = np.array([names.index(video) for video in runs[0].videos.values()])
        bases = [
            [place for place, run in enumerate(runs) if run.base == base] for base in sorted({r.base for r in runs})
        ]
        weights = np.zeros((_RESAMPLES, len(runs)))
        for row in weights:
            for base in rng.integers(len(bases), size=len(bases)):
                np.add.at(row, rng.choice(bases[base], size=len(bases[base])), 1 / len(bases) / len(bases[base]))
        videos = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
        return cls(tuple(runs[0].videos), column, weights, videos)

    def share(self, marks: Sequence[Marks]) -> dict[str, float]:
        """Return percent, low and high of right answers; marks of each run."""
        percent, low, high = self.bound(self._table(marks))
        return {"percent": percent, "low": low, "high": high}

    def difference(self, first: Sequence[Marks], second: Sequence[Marks]) -> tuple[float, float, float]:
        """Return how many points the first is above the second on the same questions, low and high."""
        return self.bound(self._table(first) - self._table(second))

    def bound(self, values: Floats) -> tuple[float, float, float]:
        """Return the mean of values [R, questions] in percent with its 95 % interval."""
        counts = np.bincount(self.column, minlength=self.videos.shape[1])
        sums = np.stack([np.bincount(self.column, row, minlength=len(counts)) for row in values])
        samples = 100 * (self.runs @ sums * self.videos).sum(1) / (self.videos @ counts)
        return 100 * float(values.mean()), *interval(samples)

    def _table(self, marks: Sequence[Marks]) -> Floats:
        return np.array([[row[question] for question in self.questions] for row in marks])


def _differences(runs: Sequence[Measured], drawn: Drawn) -> dict[str, tuple[float, float, float]]:
    pairs = {
        "both stages over uniform": (_BEST, "uniform"),
        "both stages over none": (_BEST, "localizer, untrained"),
        "pre-training over none": ("localizer, pre-trained", "localizer, untrained"),
        "refinement over none": ("localizer, refined only", "localizer, untrained"),
        "refinement alone over pre-training alone": ("localizer, refined only", "localizer, pre-trained"),
        "both stages over refinement alone": (_BEST, "localizer, refined only"),
        "both stages over pre-training alone": (_BEST, "localizer, pre-trained"),
        "no stage over uniform": ("localizer, untrained", "uniform"),
        "fine-tuning over the base, localized frames": ("localized frames / localized", "nothing (base) / localized"),
        "one frame alone over the same among four": ("oracle, one frame", "oracle's one among four"),
    }
    if _BEST in runs[0].runs:
        del pairs["no stage over uniform"]
    every = [run.runs | run.answerers for run in runs]
    made = {name: pair for name, pair in pairs.items() if every[0].keys() >= set(pair)}
    return {
        name: drawn.difference([marks[first] for marks in every], [marks[second] for marks in every])
        for name, (first, second) in made.items()
    }


def _average(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _percent(marks: Sequence[Marks], kinds: Mapping[str, str] | None = None, kind: str = "") -> float:
    right = [mark for row in marks for question, mark in row.items() if kinds is None or kinds[question] == kind]
    return 100 * float(np.mean(right))


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
        hue=figures.get("hue_degrees", 0),
        runs=len(figures["bases"]),
        bases=counted(len(set(figures["bases"])), "base"),
        made_on=figures.get("made_on", "a machine that was not noted"),
    )
    parts = [began, _selections(figures), _difference_table(figures)]
    if figures["answerers"]:
        parts += [_evidence(figures), _answerers(figures), _keyframes(figures), _moments(figures), _targets(figures)]
    parts.append(_times(figures))
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _selections(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, run in figures["runs"].items():
        types = [f"{run['by_type'][kind]:.1f}" for kind in ASKED]
        hit, seeds = figures["inside"][name], [f"{percent:.1f}" for percent in figures["by_seed"][name]]
        rows.append([name, _bounded(run["overall"]), *types, f"{hit:.1f}", " ".join(seeds)])
    titles = ["four frames chosen by", "accuracy", *ASKED, "one inside", "accuracy of each run"]
    return "## Which frames\n\n" + markdown(titles, rows)


def _difference_table(figures: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{points:+.1f} [{low:+.1f}, {high:+.1f}]", "yes" if low > 0 or high < 0 else "no"]
        for name, (points, low, high) in figures["differences"].items()
    ]
    return "## What each step adds\n\n" + markdown(["on the same questions", "points", "beyond the interval"], rows)


def _evidence(figures: Mapping[str, Any]) -> str:
    rows = [
        [name, *(f"{found[score]:.1f}" for score in EVIDENCE_SCORES)] for name, found in figures["evidence"].items()
    ]
    note = "Of the frames that show what is asked: recall and precision of the four chosen, average precision of all."
    return f"## Frames with evidence\n\n{note}\n\n" + markdown(["Localizer", *EVIDENCE_SCORES], rows)


def _answerers(figures: Mapping[str, Any]) -> str:
    rows = [[*name.split(" / "), _bounded(found)] for name, found in figures["answerers"].items()]
    return "## Answerer tuned on, tested on (the paper's table 8)\n\n" + markdown(
        ["tuned on", "read", "accuracy"], rows
    )


def _keyframes(figures: Mapping[str, Any]) -> str:
    rows = [[count, _bounded(found)] for count, found in figures["keyframes"].items()]
    return "## How many keyframes\n\n" + markdown(["K", "accuracy"], rows)


def _moments(figures: Mapping[str, Any]) -> str:
    rows = [[name, *(f"{found[score]:.1f}" for score in MOMENT_SCORES)] for name, found in figures["moments"].items()]
    return "## Moments\n\n" + markdown(["Localizer", *MOMENT_SCORES], rows)


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
    return "## Targets\n\n" + markdown(["target", "found", ""], rows)


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
    return "## Time\n\n" + markdown(["part", "minutes (of each seed)"], rows)


def _bounded(estimate: Mapping[str, float]) -> str:
    return f"{estimate['percent']:.1f} [{estimate['low']:.1f}, {estimate['high']:.1f}]"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table."""
    lines: list[Sequence[object]] = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
