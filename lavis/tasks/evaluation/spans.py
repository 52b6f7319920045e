"""How the scores of frames become spans of time, as a configuration says it."""

from dataclasses import dataclass
from typing import Annotated

from lavis.common.config import Finite, NotNegative, NotNegativeInt, one_of
from lavis.common.moments import PAPER_MAX_GAP_FRAMES, SPAN_SCORES
from lavis.datasets.annotations import Annotation
from lavis.tasks.evaluation.predictions import Prediction


@dataclass(frozen=True)
class SpanRule:
    """The `moments` section of a recipe; arguments of `find_moments`.

    Attributes:
        threshold: a frame matches a search if its margin, "yes" minus "no", reaches this; None is the middle of each
            search's own scores.
        max_gap_frames: frames in a row that may miss it within one moment (the paper's "span threshold").
        min_length_s: shorter moments are dropped.
        span_score: a moment's score from those of its frames: "mean" or "max".
    """

    threshold: Finite | None = 0.0
    max_gap_frames: NotNegativeInt = PAPER_MAX_GAP_FRAMES
    min_length_s: NotNegative = 0.0
    span_score: Annotated[str, one_of(*SPAN_SCORES)] = "mean"


def duration_of(row: Annotation, prediction: Prediction) -> float:
    """Return how long a video lasts: as annotated, else as its uniformly sampled frames tell."""
    times = prediction.frame_times_s
    # The last frame stands for as much time after it as before it.
    seen = times[-1] + (times[-1] - times[-2]) / 2 if len(times) > 1 else max(times, default=0.0)
    return row.duration_s or max(seen, 1e-3)
