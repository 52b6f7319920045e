"""Measuring a model on the miniature's held-out videos, in the roles that users call.

Everything is kept per question, so that runs can be compared pair by pair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lavis.common.types import Floats, Integers, Question
from lavis.datasets.annotations import read_annotations
from lavis.models.pipeline import WatchedVideo
from lavis.models.selectors import FrameSelector, WindowsSelector, top_positions, uniform_positions
from lavis.models.sevila.model import SeViLA
from lavis.tasks.metrics.moment_retrieval import MomentScores, corrected_moment_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth, windows_of

NUM_FRAMES = 32
_PROMPT = "multiple_choice"
# Scenes follow one another without a gap, so a single missed frame is all that may lie within a moment.
_MAX_GAP_FRAMES = 1

Positions = Mapping[str, Integers]
"""Question id -> the sampled frames that are read, in time order."""


@dataclass(frozen=True)
class Asked:
    """How a run answered the questions of a split.

    Attributes:
        right: question id -> 1.0 or 0.0.
        inside: percentage of questions with at least one of the frames inside the windows.
    """

    right: dict[str, float]
    inside: float


class HeldOut:
    """The videos, questions and moment queries of one split.

    Args:
        folder: where `sevila_data.miniature.dataset` wrote.
        max_videos: only so many videos; None is all.
    """

    def __init__(self, folder: Path, *, split: str = "test", max_videos: int | None = None) -> None:
        self._folder = folder
        questions = read_annotations(folder / "questions" / f"{split}.json").questions
        names = list(dict.fromkeys(str(question.video) for question in questions))[:max_videos]
        self.questions = {name: [q for q in questions if q.video == name] for name in names}
        file = folder / "moments" / f"{split}.json"
        queries = read_annotations(file).questions if file.is_file() else ()
        self.queries = {name: [query for query in queries if query.video == name] for name in names}

    @property
    def video_of(self) -> dict[str, str]:
        """Question id -> video."""
        return {question.id: name for name, group in self.questions.items() for question in group}

    @property
    def kind_of(self) -> dict[str, str]:
        """Question id -> type."""
        return {question.id: str(question.kind) for group in self.questions.values() for question in group}

    def watch(self, model: SeViLA) -> dict[str, WatchedVideo]:
        """Let a model see every video."""
        return {
            name: model.watch(self._folder / "videos" / f"{name}.mp4", num_frames=NUM_FRAMES) for name in self.questions
        }

    def score(self, watched: Mapping[str, WatchedVideo]) -> dict[str, list[float]]:
        """Let the Localizer score every frame for every question: question id -> [T]."""
        scores: dict[str, list[float]] = {}
        for name, questions in self.questions.items():
            found = watched[name].model.as_localizer(prompt=_PROMPT).score(watched[name].tokens, questions)
            scores |= {question.id: row.tolist() for question, row in zip(questions, found.scores, strict=True)}
        return scores

    def select(self, watched: Mapping[str, WatchedVideo], selector: FrameSelector, num_keyframes: int) -> Positions:
        """Choose frames without a Localizer."""
        chosen: dict[str, Integers] = {}
        for name, questions in self.questions.items():
            found = selector.select(None, watched[name].times_s, questions, num_keyframes=num_keyframes)
            chosen |= {question.id: row for question, row in zip(questions, found.positions, strict=True)}
        return chosen

    def one_of_four(self, watched: Mapping[str, WatchedVideo]) -> Positions:
        """Choose four frames of which one holds the fact: the oracle's one and three from other scenes."""
        groups = self.questions.items()
        return {
            question.id: one_of_four(watched[name].times_s, question) for name, group in groups for question in group
        }

    def read(self, watched: Mapping[str, WatchedVideo], positions: Positions, *, reader: str = "joint") -> Asked:
        """Let the Answerer answer all questions from the chosen frames."""
        right: dict[str, float] = {}
        inside = []
        for name, questions in self.questions.items():
            answerer = watched[name].model.as_answerer(prompt=_PROMPT, reader=reader)
            chosen = np.stack([positions[question.id] for question in questions])
            readings = answerer.answer(watched[name].tokens, chosen, questions)
            for row, question, reading in zip(chosen, questions, readings, strict=True):
                right[question.id] = float(reading.index == question.answer)
                inside.append(bool(_inside(watched[name].times_s[row], question).any()))
        return Asked(right, 100 * float(np.mean(inside)))

    def find(self, watched: Mapping[str, WatchedVideo]) -> MomentScores:
        """Find all moment queries and score them as QVHighlights does."""
        predictions, truths = [], []
        for name, queries in self.queries.items():
            for query in queries:
                truths.append(_truth(query, watched[name].info.duration_s))
                found = watched[name].find(query.text, max_gap_frames=_MAX_GAP_FRAMES)
                predictions.append(QueryPrediction(query.id, query.text, name, windows_of(found.moments)))
        return corrected_moment_scores(predictions, truths)["full"]


def best_positions(scores: Mapping[str, list[float]], num_keyframes: int) -> Positions:
    """Choose the frames of the highest scores, as the Localizer's selector does."""
    return {question: top_positions(np.array([row]), num_keyframes)[0] for question, row in scores.items()}


def one_of_four(times_s: Floats, question: Question) -> Integers:
    """Return the middle frame of the windows and three frames from elsewhere, [4] in time order."""
    one = np.array([WindowsSelector().select(None, times_s, [question], num_keyframes=1).positions[0, 0]])
    outside = np.flatnonzero(~_inside(times_s, question))
    return np.sort(np.concatenate([one, outside[uniform_positions(len(outside), 3)]]))


def _inside(times_s: Floats, question: Question) -> np.ndarray:
    inside = np.zeros(len(times_s), dtype=bool)
    for window in question.windows or ():
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    return inside


def _truth(query: Question, duration_s: float) -> QueryTruth:
    windows = np.array([(window.start_s, window.end_s) for window in query.windows or ()])
    return QueryTruth(query.id, query.text, str(query.video), duration_s, windows, np.empty((0, 3)))
