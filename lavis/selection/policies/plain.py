"""Plain policies, and what others share: positions, draws, and choosing by the scores of all frames.

T frames of one video, B questions about it, K keyframes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScorer, FrameScores, Selection
from lavis.models.frames import FrameSource


def top_positions(scores: Floats, num_keyframes: int) -> Integers:
    """Return the positions [B, K] of the highest scores [B, T], in time order; ties go to the earlier frame.

    NaN counts as the lowest score.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :num_keyframes]
    return np.sort(best, axis=1).astype(np.int64)


def uniform_positions(num_frames: int, num_keyframes: int) -> Integers:
    """Return the middle [K] of each of K equal segments of T frames."""
    edges = np.linspace(0, num_frames, num_keyframes + 1).astype(np.int64)
    return (edges[:-1] + edges[1:]) // 2


def best(scores: Floats, unread: Sequence[Unread], k: int) -> list[Selection]:
    """Keep the K frames that score highest for each question; see `top_positions`."""
    return [Selection(*chosen) for chosen in zip(top_positions(scores, k), scores, unread, strict=True)]


def random_for(question: Question, seed: int) -> np.random.Generator:
    """Return a generator that depends on the seed and the question (its id, or its text if it has none) alone."""
    return np.random.default_rng([seed, *(question.id or question.text).encode(errors="surrogatepass")])


def is_constant(scores: Floats) -> bool:
    """Whether no frame stands out, so that there is nothing to choose by."""
    return bool(np.ptp(scores) == 0)


def completed(chosen: Iterable[int], scores: Floats, k: int) -> Integers:
    """Return exactly K distinct positions in time order, where T >= K.

    The first K different ones of those chosen, then the best of the rest, then an even spread of those without a score.
    """
    kept = np.array(list(dict.fromkeys(int(position) for position in chosen))[:k], dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(scores)), kept)
    scored = rest[np.isfinite(scores[rest])]
    more = scored[np.argsort(-scores[scored], kind="stable")][: k - len(kept)]
    unscored = np.setdiff1d(rest, scored)
    spread = unscored[uniform_positions(len(unscored), k - len(kept) - len(more))]
    return np.sort(np.concatenate([kept, more, spread]))


@dataclass(frozen=True)
class Candidates:
    """The frames of one video that can be chosen for one question, in time order. n of them.

    Attributes:
        scores: float64 [n], finite.
        times_s: float64 [n].
        features: float64 [n, D], what frames are compared by; None where the policy compares none.
    """

    question: Question
    scores: Floats
    times_s: Floats
    features: Floats | None = None


class Scored(ABC):
    """A policy that looks at the scores of all frames, at one question after the other.

    It never chooses a frame whose score is no finite number while there are K others, and always K different ones: what
    the rule leaves open is taken by score (see `completed`).

    Args:
        published: keep what the published code does where that differs. It may choose fewer frames than asked, and
            some twice.
    """

    needs_scorer = True

    def __init__(self, *, published: bool = False) -> None:
        self._published = published

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score every frame for every question, and choose by that.

        Raises:
            ConfigError: the scorer does not offer what the policy needs, or the published rule chooses no frame at all.
        """
        assert scorer is not None, "it needs one"
        found, features = self._look(frames, questions, scorer)
        chosen = []
        for question, scores, unread in zip(questions, found.scores, found.unread, strict=True):
            every = Candidates(question, scores, frames.times_s, features)
            chosen.append(self._selection(every, k, unread))
        return chosen

    def _look(
        self, frames: FrameSource, questions: Sequence[Question], scorer: FrameScorer
    ) -> tuple[FrameScores, Floats | None]:
        """Return scores, and the features [T, D] of frames where the policy compares frames."""
        return scorer.score(frames, questions), None

    def _selection(self, every: Candidates, k: int, unread: Unread) -> Selection:
        if self._published:
            whole = replace(every, scores=without_gaps(every.scores))
            chosen = np.sort(np.asarray(self._choose(whole, k), dtype=np.int64))
            if not len(chosen):
                raise ConfigError(
                    f"{type(self).__name__} as it was published chooses none of {len(every.scores)} frames "
                    f"for k = {k}; ask for more frames, or leave out `published`"
                )
            return Selection(chosen, every.scores, unread)
        return Selection(completed(self._order(every, k), every.scores, k), every.scores, unread)

    def _order(self, every: Candidates, k: int) -> Integers:
        """Return what the rule chooses of the frames that have a score, or all of these if they are no more than K."""
        places = np.flatnonzero(np.isfinite(every.scores))
        return places if len(places) <= k else self._ruled(every, k, places)

    def _ruled(self, every: Candidates, k: int, places: Integers) -> Integers:
        """Return what the rule chooses of the frames at some places."""
        features = None if every.features is None else every.features[places]
        scored = Candidates(every.question, every.scores[places], every.times_s[places], features)
        return places[np.asarray(self._choose(scored, k), dtype=np.int64)]

    @abstractmethod
    def _choose(self, candidates: Candidates, k: int) -> Sequence[int] | Integers:
        """Return what the rule chooses, the most important first."""


def picture_features(frames: FrameSource, *, size: int) -> Floats:
    """Return small pictures of all frames as vectors [T, 3 size²], values from 0 to 255."""
    return frames.pictures(np.arange(len(frames)), size=size).reshape(len(frames), -1).astype(np.float64)


Search = Generator[Integers, Floats, Integers]
"""Yields positions of frames, is sent their scores, and returns the positions that are chosen."""


class Searching(ABC):
    """A policy that asks the scorer for some frames, looks at the scores, and asks for more; K different in the end.

    Searches for several questions about a video go on side by side, so that the scorer is called once for all of them.
    Frames that were not scored can be chosen; they have the score NaN.
    """

    needs_scorer = True
    chooses_unscored = True

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Search for each question."""
        assert scorer is not None, "it needs one"
        scores, unread = np.full((len(questions), len(frames)), np.nan), (Unread(),) * len(questions)
        asked = np.zeros(scores.shape, dtype=bool)
        searches = [self._search(frames.times_s, question, k) for question in questions]
        requests: dict[int, Integers] = {row: next(search) for row, search in enumerate(searches)}
        chosen: dict[int, Integers] = {}
        while requests:
            wanted = np.zeros_like(asked)
            for row, positions in requests.items():
                wanted[row, positions] = True
            wanted &= ~asked
            if wanted.any():
                found = scorer.score(frames, questions, where=wanted)
                scores, unread, asked = np.where(wanted, found.scores, scores), found.unread, asked | wanted
            for row, positions in list(requests.items()):
                try:
                    requests[row] = searches[row].send(without_gaps(scores[row])[positions])
                except StopIteration as end:
                    chosen[row] = end.value
                    del requests[row]
        return [Selection(chosen[row], scores[row], unread[row]) for row in range(len(questions))]

    @abstractmethod
    def _search(self, times_s: Floats, question: Question, k: int) -> Search:
        """Search for one question."""


def scale_of(first: Floats) -> Callable[[Floats], Floats]:
    """Return what brings scores to the range 0..1: nothing where all of the first ones lie in it.

    Else their lowest becomes 0 and their highest 1; lower ones that come later become 0 too.
    """
    low, high = float(first.min()), float(first.max())
    if low >= 0 and high <= 1:
        return lambda scores: scores
    width = high - low or 1.0
    return lambda scores: ((scores - low) / width).clip(min=0)


def without_gaps(scores: Floats) -> Floats:
    """Return scores in which whatever is no finite number is the lowest of the others, or 0 where there are none."""
    finite = scores[np.isfinite(scores)]
    return np.where(np.isfinite(scores), scores, finite.min() if len(finite) else 0.0)


class TopK:
    """The forward chain's choice: the K frames that score highest (paper, section 3.2)."""

    needs_scorer = True

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score every frame for every question and keep the top K."""
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        return best(found.scores, found.unread, k)

    def decide(
        self, frames: FrameSource, questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Keep the frames above the largest gap in the order of scores (our own); all `most` where there is none."""
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        return [
            best(scores[None], [unread], above_gap(scores, most))[0]
            for scores, unread in zip(found.scores, found.unread, strict=True)
        ]


def above_gap(scores: Floats, most: int) -> int:
    """Return how many scores [T] lie above the largest gap within the best `most` + 1, the first of equal gaps.

    Scores that are no finite numbers do not count; at least 1, and `most` where all scores are equal.
    """
    ranked = np.sort(scores[np.isfinite(scores)])[::-1][: most + 1]
    gaps = -np.diff(ranked)
    if not len(gaps) or not gaps.any():
        return max(1, min(most, len(ranked)))
    return int(gaps.argmax()) + 1


class _Unscored(ABC):
    """A policy that looks at no scores, and at one question after the other."""

    needs_scorer = False

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose frames for each question."""
        del scorer
        return [Selection(self._positions(frames, question, k)) for question in questions]

    @abstractmethod
    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        """Return which frames are chosen, in time order."""


class Uniform(_Unscored):
    """The uniform baseline: K frames spread evenly, the middles of K equal segments, the same for every question."""

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        del question
        return uniform_positions(len(frames), k)


class All(_Unscored):
    """Every frame, however many are asked for."""

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        del question, k
        return np.arange(len(frames))


class Random(_Unscored):
    """K frames at random, without replacement, independently for each question.

    Args:
        seed: the same seed and question (its id, or its text if it has none) give the same frames. None draws others
            each time, from torch's global generator.
    """

    def __init__(self, *, seed: int | None = 0) -> None:
        self._seed = seed

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        if self._seed is None:
            return np.sort(torch.randperm(len(frames))[:k].numpy())
        return np.sort(random_for(question, self._seed).choice(len(frames), k, replace=False))


class Windows(_Unscored):
    """The oracle: frames spread evenly over the annotated windows, then over the rest if they do not suffice.

    A question without annotated windows is a QuestionError.
    """

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Make sure that all questions have windows.

        Raises:
            QuestionError: one has none.
        """
        for question in questions:
            if not question.windows:
                raise QuestionError(f"question {question.id or question.text!r} has no windows to choose frames from")

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        within, outside = self._parted(frames, question)
        from_within = min(k, len(within))
        chosen = [
            within[uniform_positions(len(within), from_within)],
            outside[uniform_positions(len(outside), k - from_within)],
        ]
        return np.sort(np.concatenate(chosen)).astype(np.int64)

    def decide(
        self, frames: FrameSource, questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose the frames in the windows alone, spread evenly where they are more than `most`; at least one frame."""
        del scorer
        counts = [len(self._parted(frames, question)[0]) for question in questions]
        return [
            Selection(self._positions(frames, question, max(1, min(count, most))))
            for question, count in zip(questions, counts, strict=True)
        ]

    def _parted(self, frames: FrameSource, question: Question) -> tuple[Integers, Integers]:
        """Return the positions inside of the windows, and those outside."""
        self.check_questions([question])
        inside = inside_windows(frames.times_s, question.windows or ())
        return np.flatnonzero(inside), np.flatnonzero(~inside)
