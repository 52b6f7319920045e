"""Policies of our own that spread frames: over scenes, over what passes a threshold, and half of them evenly."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Floats, Integers, Question
from lavis.models.base import FramePolicy, FrameScorer, FrameScores, Selection, TakesWeights, VideoModel
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import (
    Candidates,
    Scored,
    completed,
    is_constant,
    picture_features,
    uniform_positions,
)

# Of fitting a mixture; a few dozen suffice where scores have two heaps.
_MOST_STEPS = 200


class Scenes(Scored):
    """Cuts the video at the K - 1 largest changes of picture, and takes the best frame of each scene.

    Args:
        size: side in pixels of the pictures that are compared, each with the next one.
    """

    def __init__(self, *, size: int = 32) -> None:
        super().__init__()
        self._size = size

    def _look(
        self, frames: FrameSource, questions: Sequence[Question], scorer: FrameScorer
    ) -> tuple[FrameScores, Floats | None]:
        return scorer.score(frames, questions), picture_features(frames, size=self._size)

    def _choose(self, candidates: Candidates, k: int) -> list[int]:
        scores, features = candidates.scores, candidates.features
        assert features is not None, "_look gives them"
        changes = np.abs(np.diff(features, axis=0)).mean(axis=1)
        cuts = np.sort(np.argsort(-changes, kind="stable")[: k - 1]) + 1
        if is_constant(changes):
            cuts = np.linspace(0, len(scores), k + 1).astype(np.int64)[1:-1]
        return [start + int(scores[start:end].argmax()) for start, end in pairwise([0, *cuts, len(scores)])]


class Threshold:
    """Takes the frames that match by themselves, whose margin is above a threshold, evenly where they are more than K.

    Where they are fewer, the best of the rest follow.

    Args:
        above: the threshold of the margin; SeViLA's margin is the logit of "yes" minus that of "no". "mixture" is
            one of the scores instead, which A.I.R. (ICLR 2026) starts from: two Gaussians are fitted to them, and it
            lies 0.7 of the larger standard deviation below the larger mean. Its further rounds, in which a
            language model grades frames, are not here.
        fewer: leave it at the frames that match, and the best one where none does: the policy decides how many.

    Raises:
        ConfigError: `above` is no number, and not "mixture".
    """

    needs_scorer = True

    def __init__(self, *, above: float | str = 0.0, fewer: bool = False) -> None:
        if above != "mixture" and (isinstance(above, str) or not math.isfinite(above)):
            raise ConfigError(f"cannot choose frames above {above!r}; give a number, or mixture")
        self._above, self._fewer = above, fewer
        self.reads_margins = above != "mixture"

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score every frame for every question, and choose those that match."""
        return self._chosen(frames, questions, k, scorer, fewer=self._fewer)

    def decide(
        self, frames: FrameSource, questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose as with `fewer`."""
        return self._chosen(frames, questions, most, scorer, fewer=True)

    def _chosen(
        self,
        frames: FrameSource,
        questions: Sequence[Question],
        k: int,
        scorer: FrameScorer | None,
        *,
        fewer: bool,
    ) -> list[Selection]:
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        chosen = []
        for scores, margins, unread in zip(found.scores, found.margins, found.unread, strict=True):
            scored = np.flatnonzero(np.isfinite(scores))
            if isinstance(self._above, str):
                matching = scored[scores[scored] > mixture_threshold(scores[scored])]
            else:
                matching = scored[margins[scored] > self._above]
            if len(matching) > k:
                matching = matching[uniform_positions(len(matching), k)]
            count = max(1, len(matching)) if fewer else k
            chosen.append(Selection(completed(matching, scores, count), scores, unread))
        return chosen


def mixture_threshold(scores: Floats) -> float:
    """Fit two Gaussians to finite scores [n], and return the larger mean less 0.7 of the larger standard deviation."""
    if not len(scores) or is_constant(scores):
        return float(scores[0]) if len(scores) else 0.0
    low, width = scores.min(), np.ptp(scores)
    values = np.sort((scores - low) / width)
    lower, upper = np.array_split(values, 2)
    means, variances, shares = np.array([lower.mean(), upper.mean()]), np.full(2, values.var()), np.full(2, 0.5)
    for _ in range(_MOST_STEPS):
        logs = np.log(shares) - np.log(variances) / 2 - (values[:, None] - means) ** 2 / (2 * variances)
        belongs = np.exp(logs - np.logaddexp(*logs.T)[:, None])
        counts = belongs.sum(0).clip(min=1e-9)
        before, means = means, (belongs * values[:, None]).sum(0) / counts
        variances = ((belongs * (values[:, None] - means) ** 2).sum(0) / counts).clip(min=1e-6)
        shares = counts / counts.sum()
        if np.abs(means - before).max() < 1e-9:
            break
    return float(low + width * (means.max() - 0.7 * np.sqrt(variances.max())))


class HalfUniform:
    """Spreads a share of K evenly over the video, and lets another policy choose the rest.

    Args:
        share: of K, rounded down.
        policy: the other policy: its name, or `{name: ..., ...}` with its arguments. A frame that both choose is
            replaced by the best of the rest.

    Raises:
        ConfigError: the share is not from 0 to below 1, or there is no such policy.
    """

    chooses_unscored = True

    def __init__(self, *, share: float = 0.5, policy: str | Mapping[str, Any] = "top_k") -> None:
        if not 0 <= share < 1:
            raise ConfigError(f"cannot spread a share of {share}; give 0 or more, and less than 1")
        self._share, self._other = share, cast("FramePolicy", registry.policies.build(policy))
        self.needs_scorer = self._other.needs_scorer

    def take_weights(self, model: VideoModel, scorer: FrameScorer) -> None:
        """Let the other policy take its weights, if it has some; see `TakesWeights`."""
        if isinstance(self._other, TakesWeights):
            self._other.take_weights(model, scorer)

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose for each question, from what the other policy chooses and an even spread."""
        even = uniform_positions(len(frames), int(k * self._share))
        others = self._other.choose(frames, questions, k=k - len(even), scorer=scorer)
        return [Selection(self._mixed(even, other, k, len(frames)), other.scores, other.unread) for other in others]

    def _mixed(self, even: Integers, other: Selection, k: int, num_frames: int) -> Integers:
        scores = other.scores if len(other.scores) else np.full(num_frames, np.nan)
        return completed([*even, *other.positions], scores, k)
