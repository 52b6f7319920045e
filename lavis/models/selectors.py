"""Which frames the Answerer reads.

T frames of one video, B questions about it, K keyframes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lavis.common.errors import QuestionError
from lavis.common.registry import registry
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.roles import Localizer


@dataclass(frozen=True)
class Selection:
    """Chosen frames of each question.

    Attributes:
        positions: int64 [B, K], in time order.
        scores: float64 [B, T], or [B, 0] where the selector does not score frames.
        unread: for each question, what of its prompt the model did not read.
        scored: bool [B, T], which frames were scored; the others have the score NaN. None where all or none were.
    """

    positions: Integers
    scores: Floats
    unread: tuple[Unread, ...]
    scored: npt.NDArray[np.bool_] | None = None


class FrameSelector(Protocol):
    """Chooses K of T frames for each question about one video."""

    def select(self, tokens: Any, times_s: Floats, questions: Sequence[Question], *, num_keyframes: int) -> Selection:
        """Choose frames; `tokens` hold T frames at `times_s`, and 1 <= `num_keyframes` <= T."""
        ...


def build_selector(name: str, localizer: Callable[[], Localizer]) -> FrameSelector:
    """Build a selector by name in `registry.selectors`; the Localizer is made only for those that ask it.

    Raises:
        ConfigError: no selector has this name.
    """
    kind = registry.selectors.get(name)
    selector: FrameSelector = kind(localizer=localizer()) if issubclass(kind, LocalizerSelector) else kind()
    return selector


def top_positions(scores: Floats, num_keyframes: int) -> Integers:
    """Return the positions [B, K] of the highest scores [B, T], in time order; ties go to the earlier frame."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :num_keyframes]
    return np.sort(best, axis=1).astype(np.int64)


def uniform_positions(num_frames: int, num_keyframes: int) -> Integers:
    """Return the middle [K] of each of K equal segments of T frames."""
    edges = np.linspace(0, num_frames, num_keyframes + 1).astype(np.int64)
    return (edges[:-1] + edges[1:]) // 2


class LocalizerSelector:
    """The forward chain's choice: the K frames the Localizer scores highest (paper, section 3.2).

    Selectors that ask a Localizer too are made of this class, which tells `build_selector` to give them one.
    """

    def __init__(self, *, localizer: Localizer) -> None:
        self._localizer = localizer

    def select(self, tokens: Any, times_s: Floats, questions: Sequence[Question], *, num_keyframes: int) -> Selection:
        """Score every frame for every question and keep the top K."""
        del times_s
        found = self._localizer.score(tokens, questions)
        return Selection(top_positions(found.scores, num_keyframes), found.scores, found.unread)


class UniformSelector:
    """The uniform baseline: K frames spread evenly, the same for every question."""

    def select(self, tokens: Any, times_s: Floats, questions: Sequence[Question], *, num_keyframes: int) -> Selection:
        """Choose the middles of K equal segments."""
        del tokens
        chosen = uniform_positions(len(times_s), num_keyframes)
        return _unscored(np.tile(chosen, (len(questions), 1)))


class RandomSelector:
    """K frames at random; the same seed and question (its id, or its text if it has none) give the same frames."""

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def select(self, tokens: Any, times_s: Floats, questions: Sequence[Question], *, num_keyframes: int) -> Selection:
        """Draw without replacement, independently for each question."""
        del tokens
        chosen = []
        for question in questions:
            rng = np.random.default_rng([self._seed, *(question.id or question.text).encode(errors="surrogatepass")])
            chosen.append(np.sort(rng.choice(len(times_s), num_keyframes, replace=False)))
        return _unscored(np.array(chosen, dtype=np.int64))


class WindowsSelector:
    """The oracle: frames spread evenly over the annotated windows, then over the rest if they do not suffice."""

    def select(self, tokens: Any, times_s: Floats, questions: Sequence[Question], *, num_keyframes: int) -> Selection:
        """Choose inside the windows.

        Raises:
            QuestionError: a question has no annotated windows.
        """
        del tokens
        chosen = []
        for question in questions:
            if not question.windows:
                raise QuestionError(f"question {question.id or question.text!r} has no windows to choose frames from")
            inside = np.zeros(len(times_s), dtype=bool)
            for window in question.windows:
                inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
            within, outside = np.flatnonzero(inside), np.flatnonzero(~inside)
            from_within = min(num_keyframes, len(within))
            parts = [within[uniform_positions(len(within), from_within)]]
            if from_within < num_keyframes:
                parts.append(outside[uniform_positions(len(outside), num_keyframes - from_within)])
            chosen.append(np.sort(np.concatenate(parts)))
        return _unscored(np.array(chosen, dtype=np.int64))


def _unscored(positions: Integers) -> Selection:
    return Selection(positions, np.empty((len(positions), 0)), (Unread(),) * len(positions))
