"""How well ways to choose frames do on the same questions: accuracy, annotated windows, cost, and pairs compared.

Questions about one video depend on each other: intervals resample videos, and next to the exact test over questions
(McNemar's: the sign test over the questions that one of the two answers right) stands the sign test over videos.
Where many ways are compared with one, some look better by chance; `p_holm` is corrected for that (Holm, 1979).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lavis.common.moments import inside_windows
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.accuracy import (
    DEFAULT_RESAMPLES,
    Outcome,
    accuracy_report,
    compare_runs,
    interval,
    mcnemar_exact,
    resampled_totals,
)
from lavis.tasks.predictions import Prediction

UNIFORM, FIRST = "uniform", "first"
"""What every way is compared with: the uniform baseline, and the way that was named first."""


@dataclass(frozen=True, slots=True)
class QuestionCost:
    """What it took to choose the frames of a question.

    Attributes:
        frames_looked_at: frames of the video that were decoded for it, if nothing had been decoded before.
        frames_scored: frames that have a score for this question.
        scorer_calls: times that the scorer was asked, for all questions that were asked together.
        seconds: to choose frames for all questions that were asked together.
        together: how many these were.
    """

    frames_looked_at: int
    frames_scored: int
    scorer_calls: int
    seconds: float
    together: int


@dataclass(frozen=True)
class SelectorRun:
    """How one way to choose frames did, on every question.

    Attributes:
        k: frames that it was asked for.
        predictions: one for each annotation, in the same order.
        costs: by question id; a video that could not be read has none.
    """

    label: str
    k: int | str
    predictions: Sequence[Prediction]
    costs: Mapping[str, QuestionCost]


def selector_figures(
    runs: Sequence[SelectorRun],
    annotations: Sequence[Annotation],
    *,
    uniform: str,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return a row of JSON values for each run.

    Args:
        uniform: the label of the uniform baseline.

    Returns:
        "selector", "k", "questions", "unreadable", "frames_read" (mean), "cost" (means of one question),
        "accuracy" (an `Estimate`; None where no answer is known), "windows" (None where none is annotated: "any" is
        the percentage of questions of which a frame lies inside, "share" the percentage of frames that do), and
        "against", with a comparison at the same k for "uniform" and "first"; None with itself, and where there is none.
    """
    marks = [_marks(run) for run in runs]
    at = {(run.label, run.k): index for index, run in enumerate(runs)}
    videos = {row.question.id: row.question.video or "" for row in annotations}
    rows = [_row(run, annotations, resamples=resamples, seed=seed) for run in runs]
    for name, label in ((UNIFORM, uniform), (FIRST, runs[0].label)):
        others = [at.get((label, run.k)) for run in runs]
        pairs = {
            index: compared(marks[index], marks[other], videos, resamples=resamples, seed=seed)
            for index, other in enumerate(others)
            if other is not None and other != index and marks[index]
        }
        corrected = holm([pair["p_value"] for pair in pairs.values()])
        for (index, pair), p_holm in zip(pairs.items(), corrected, strict=True):
            rows[index]["against"][name] = {**pair, "p_holm": p_holm}
    return rows


def _marks(run: SelectorRun) -> dict[str, bool]:
    return {one.id: one.is_right for one in run.predictions if one.answer is not None}


def _row(run: SelectorRun, annotations: Sequence[Annotation], *, resamples: int, seed: int) -> dict[str, Any]:
    pairs = list(zip(run.predictions, annotations, strict=True))
    known = [one for one in run.predictions if one.answer is not None]
    read = [len(one.keyframe_idx) for one in run.predictions if one.unreadable is None]
    windowed = [(one, row) for one, row in pairs if row.question.windows]
    shares = [
        inside_windows(np.array(one.keyframe_times_s), row.question.windows or ()).mean() if one.keyframe_idx else 0.0
        for one, row in windowed
    ]

    def estimate(predictions: Sequence[Prediction], values: Sequence[float]) -> dict[str, Any]:
        outcomes = [
            Outcome(one.id, float(value), readable=one.unreadable is None)
            for one, value in zip(predictions, values, strict=True)
        ]
        clusters = [one.video for one in predictions]
        return asdict(accuracy_report(outcomes, clusters=clusters, resamples=resamples, seed=seed).overall)

    inside = [one for one, _ in windowed]
    return {
        "selector": run.label,
        "k": run.k,
        "questions": len(pairs),
        "unreadable": len(pairs) - len(read),
        "frames_read": float(np.mean(read)) if read else None,
        "accuracy": estimate(known, [one.is_right for one in known]) if known else None,
        "windows": {
            "any": estimate(inside, [share > 0 for share in shares]),
            "share": estimate(inside, shares),
        }
        if windowed
        else None,
        "cost": mean_cost([run.costs[one.id] for one in run.predictions if one.id in run.costs]),
        "against": {UNIFORM: None, FIRST: None},
    }


def mean_cost(costs: Sequence[QuestionCost]) -> dict[str, float] | None:
    """Return the mean cost of a question; what was done for several at once is divided among them, but for frames."""
    if not costs:
        return None
    return {
        "frames_looked_at": float(np.mean([one.frames_looked_at for one in costs])),
        "frames_scored": float(np.mean([one.frames_scored for one in costs])),
        "scorer_calls": float(np.mean([one.scorer_calls / one.together for one in costs])),
        "seconds": float(np.mean([one.seconds / one.together for one in costs])),
    }


def compared(
    first: Mapping[str, bool],
    second: Mapping[str, bool],
    videos: Mapping[str, str],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare which questions, by id, two runs answered right, also over whole videos.

    Args:
        videos: the video of each question.

    Returns:
        What `compare_runs` returns, and: "low" and "high", the 95 % interval of the difference in points, videos being
        resampled; "videos_first" and "videos_second", of how many videos more questions were right in that run;
        "p_value_videos", the exact two-sided sign test on these.

    Raises:
        UserError: the runs are over different questions.
    """
    found = compare_runs(first, second)
    place = {video: index for index, video in enumerate(dict.fromkeys(videos[qid] for qid in first))}
    units = np.zeros((len(place), 2))
    for qid, is_right in first.items():
        units[place[videos[qid]]] += (int(is_right) - int(second[qid]), 1)
    gained, asked = resampled_totals(units, resamples=resamples, seed=seed).T
    low, high = interval(100 * gained / asked)
    ahead, behind = int((units[:, 0] > 0).sum()), int((units[:, 0] < 0).sum())
    return {
        **found.as_dict(),
        "low": low,
        "high": high,
        "videos_first": ahead,
        "videos_second": behind,
        "p_value_videos": mcnemar_exact(ahead, behind),
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values of as many tests, corrected so that the chance of any false finding stays what each says.

    The smallest of m is multiplied by m, the next one by m - 1, and so on; none gets smaller than one before it.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
