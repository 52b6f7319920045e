"""From the scores of single frames to moments of the video.

The rule is the one of SeViLA (arXiv 2305.06988, appendix on video moment retrieval, figure 6):
every frame is judged yes or no, and the yes frames are joined to one span as long as no more than
`max_gap_frames` no frames in a row lie between them. The paper samples QVHighlights at 0.5 frames a second
(75 frames) and sets this "span threshold" to 6, the mean interval between annotated spans of the training split.
It does not say how the borders and the scores of spans are computed; those are our choices below.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from lavis.common import defaults
from lavis.common.errors import ConfigError, UserError, did_you_mean
from lavis.common.types import Floats, Moment, Span

SPAN_SCORES: dict[str, Callable[[Floats], float]] = {
    "mean": lambda scores: float(scores.mean()),
    "max": lambda scores: float(scores.max()),
}


def find_moments(
    times_s: Floats,
    scores: Floats,
    *,
    duration_s: float,
    threshold: float | None = None,
    max_gap_frames: int = defaults.MAX_GAP_FRAMES,
    min_length_s: float = 0.0,
    span_score: str = "mean",
    at_least_one: bool = False,
    max_moments: int | None = None,
) -> tuple[Moment, ...]:
    """Join the frames that match a query to moments, best first.

    Args:
        times_s: [T], ascending times of the sampled frames in seconds.
        scores: [T], how well each frame matches: any real numbers, such as the logit of "yes".
        duration_s: the video's length; no moment reaches beyond it.
        threshold: a frame matches if its score reaches this. With the logit of "yes" minus the logit of "no" as
            scores, 0 is the paper's decision. The logit of "yes" alone has no natural zero: None takes the middle
            between the lowest and the highest score, so that something is always found.
        max_gap_frames: as many frames in a row may miss the threshold within one moment (the paper's "span threshold").
        min_length_s: shorter moments are dropped.
        span_score: a moment's score from the scores of all its frames, gaps included: "mean" or "max".
        at_least_one: the best moment is kept even if no frame reaches the threshold or it is too short: a submission to
            QVHighlights needs a window for every query.
        max_moments: only so many of the best are kept; None keeps all.

    Raises:
        UserError: times and scores do not fit together, or are not finite and in order.
        ConfigError: a parameter cannot be.
    """
    times_s, scores = np.asarray(times_s, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    _check_curve(times_s, scores)
    _check_parameters(duration_s, threshold, max_gap_frames, min_length_s, max_moments)
    if span_score not in SPAN_SCORES:
        raise ConfigError(f"unknown span_score {span_score!r}; {did_you_mean(span_score, SPAN_SCORES)}")
    if threshold is None:
        # Halving first keeps the sum finite; the minimum keeps rounding from lifting it over an all-equal curve.
        threshold = min(scores.min() / 2 + scores.max() / 2, scores.max())
    if at_least_one:
        threshold = min(threshold, scores.max())

    edges = frame_edges(times_s, duration_s=duration_s)
    moments = [
        Moment(float(edges[first]), float(edges[last + 1]), SPAN_SCORES[span_score](scores[first : last + 1]))
        for first, last in _runs(np.flatnonzero(scores >= threshold), max_gap_frames)
    ]
    best_first = sorted(moments, key=lambda moment: (-moment.score, moment.start_s))
    kept = [moment for moment in best_first if moment.end_s - moment.start_s >= min_length_s]
    if at_least_one and not kept:
        kept = best_first[:1]
    return tuple(kept[:max_moments])


def frame_edges(times_s: Floats, *, duration_s: float) -> Floats:
    """Return [T + 1] borders of the time that each of [T] frames stands for, in seconds.

    A frame reaches to the middle between it and its neighbours, the first and the last as far outwards as inwards;
    all is clipped to [0, duration_s]. A single frame stands for the whole video.
    """
    if len(times_s) == 1:
        return np.array([0.0, duration_s])
    middles = (times_s[1:] + times_s[:-1]) / 2
    first, last = 2 * times_s[0] - middles[0], 2 * times_s[-1] - middles[-1]
    return np.clip(np.concatenate([[first], middles, [last]]), 0.0, duration_s)


def inside_windows(times_s: npt.ArrayLike, windows: Iterable[Span]) -> npt.NDArray[np.bool_]:
    """Return [T], which of the frames shown at `times_s` lie in one of the windows; both ends belong to a window."""
    times_s = np.asarray(times_s)
    inside = np.zeros(times_s.shape, dtype=bool)
    for window in windows:
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    return inside


def _runs(matching: np.ndarray, max_gap_frames: int) -> list[tuple[int, int]]:
    """Group ascending positions into (first, last) runs with at most `max_gap_frames` left out in a row."""
    if not len(matching):
        return []
    cuts = np.flatnonzero(np.diff(matching) - 1 > max_gap_frames)
    firsts = matching[np.concatenate([[0], cuts + 1])]
    lasts = matching[np.concatenate([cuts, [len(matching) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _check_curve(times_s: Floats, scores: Floats) -> None:
    if times_s.ndim != 1 or times_s.shape != scores.shape or not len(times_s):
        raise UserError(f"need one score for each of at least one frame time, got {times_s.shape} and {scores.shape}")
    for name, values in (("time", times_s), ("score", scores)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise UserError(f"frame {name} at position {bad[0]} is {values[bad[0]]}; frame {name}s must be finite")
    back = np.flatnonzero(np.diff(times_s) < 0)
    if len(back):
        at = back[0]
        raise UserError(f"frame times must ascend, got {times_s[at]} s before {times_s[at + 1]} s at position {at}")


def _check_parameters(
    duration_s: float, threshold: float | None, max_gap_frames: int, min_length_s: float, max_moments: int | None
) -> None:
    if not (np.isfinite(duration_s) and duration_s > 0):
        raise ConfigError(f"duration_s is {duration_s}; it must be a positive number of seconds")
    if threshold is not None and np.isnan(threshold):
        raise ConfigError("threshold is nan; give a number, or none for the middle of the scores")
    if max_gap_frames < 0:
        raise ConfigError(f"max_gap_frames is {max_gap_frames}; it must be 0 or more")
    if not min_length_s >= 0:
        raise ConfigError(f"min_length_s is {min_length_s}; it must be 0 or more")
    if max_moments is not None and max_moments < 1:
        raise ConfigError(f"max_moments is {max_moments}; it must be 1 or more, or none for all")
