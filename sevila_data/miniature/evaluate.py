"""Measuring a model on the miniature's test videos, through the very pipeline that users call.

Everything is kept per question, so that figures can be bounded by resampling videos and runs compared pair by pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lavis.common.types import Floats, Integers, Question
from lavis.datasets.annotations import read_annotations
from lavis.models.pipeline import WatchedVideo
from lavis.models.selectors import WindowsSelector, uniform_positions
from lavis.models.sevila.model import SeViLA
from lavis.tasks.metrics.accuracy import AccuracyReport, Outcome, accuracy_report
from lavis.tasks.metrics.bootstrap import interval
from lavis.tasks.metrics.moment_retrieval import MomentScores, corrected_moment_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth, windows_of

NUM_FRAMES = 32
_RESAMPLES = 2000
# Scenes follow one another without a gap, so a single missed frame is all that may lie within a moment.
_MAX_GAP_FRAMES = 1


@dataclass(frozen=True)
class Asked:
    """Which questions of a split a run answered right.

    Attributes:
        right: question id -> 1.0 or 0.0.
        report: accuracy overall and by type, bounded by resampling videos.
    """

    right: dict[str, float]
    video_of: dict[str, str]
    report: AccuracyReport

    @property
    def percent(self) -> float:
        """Accuracy over all questions."""
        return self.report.overall.percent


class HeldOut:
    """The videos, questions and moment queries of one split, watched once per model.

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

    def watch(self, model: SeViLA) -> dict[str, WatchedVideo]:
        """Let a model see every video."""
        return {
            name: model.watch(self._folder / "videos" / f"{name}.mp4", num_frames=NUM_FRAMES) for name in self.questions
        }

    def ask(
        self, watched: dict[str, WatchedVideo], *, selector: str, num_keyframes: int = 4, reader: str = "joint"
    ) -> Asked:
        """Answer all questions; arguments as for `WatchedVideo.ask_all`."""
        outcomes, videos = [], []
        for name, questions in self.questions.items():
            answers = watched[name].ask_all(questions, num_keyframes=num_keyframes, selector=selector, reader=reader)
            for question, answer in zip(questions, answers, strict=True):
                outcomes.append(Outcome(question.id, float(answer.index == question.answer), question.kind))
                videos.append(name)
        return _asked(outcomes, videos)

    def ask_one_of_four(self, watched: dict[str, WatchedVideo]) -> Asked:
        """Answer from four frames of which one holds the fact: the oracle's one and three from other scenes."""
        outcomes, videos = [], []
        for name, questions in self.questions.items():
            video = watched[name]
            positions = np.stack([one_of_four(video.times_s, question) for question in questions])
            answerer = video.model.as_answerer(prompt="multiple_choice", reader="joint")
            readings = answerer.answer(video.tokens, positions, questions)
            for question, reading in zip(questions, readings, strict=True):
                outcomes.append(Outcome(question.id, float(reading.index == question.answer), question.kind))
                videos.append(name)
        return _asked(outcomes, videos)

    def find(self, watched: dict[str, WatchedVideo]) -> MomentScores:
        """Find all moment queries and score them as QVHighlights does."""
        predictions, truths = [], []
        for name, queries in self.queries.items():
            for query in queries:
                truths.append(_truth(query, watched[name].info.duration_s))
                found = watched[name].find(query.text, max_gap_frames=_MAX_GAP_FRAMES)
                predictions.append(QueryPrediction(query.id, query.text, name, windows_of(found.moments)))
        return corrected_moment_scores(predictions, truths)["full"]


def one_of_four(times_s: Floats, question: Question) -> Integers:
    """Return the middle frame of the windows and three frames from elsewhere, [4] in time order."""
    one = np.array([WindowsSelector().select(None, times_s, [question], num_keyframes=1).positions[0, 0]])
    inside = np.zeros(len(times_s), dtype=bool)
    for window in question.windows or ():
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    outside = np.flatnonzero(~inside)
    return np.sort(np.concatenate([one, outside[uniform_positions(len(outside), 3)]]))


def _asked(outcomes: list[Outcome], videos: list[str]) -> Asked:
    right = {outcome.id: outcome.correct for outcome in outcomes}
    video_of = dict(zip(right, videos, strict=True))
    return Asked(right, video_of, accuracy_report(outcomes, clusters=videos, resamples=_RESAMPLES))


def difference(first: Asked, second: Asked) -> tuple[float, float, float]:
    """Return how many points the first run is above the second, with the 95 % interval over videos."""
    videos = sorted(set(first.video_of.values()))
    place = {name: index for index, name in enumerate(videos)}
    gains, counts = np.zeros(len(videos)), np.zeros(len(videos))
    for question, name in first.video_of.items():
        gains[place[name]] += first.right[question] - second.right[question]
        counts[place[name]] += 1
    drawn = np.random.default_rng(0).integers(len(videos), size=(_RESAMPLES, len(videos)))
    samples = 100 * gains[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return 100 * float(gains.sum() / counts.sum()), *interval(samples)


def keyframes_inside(
    watched: dict[str, WatchedVideo], questions: Mapping[str, Sequence[Question]], *, num_keyframes: int = 4
) -> float:
    """Return the percentage of questions with at least one localized keyframe inside their windows."""
    hits, asked = 0, 0
    for name, group in questions.items():
        answers = watched[name].ask_all(group, num_keyframes=num_keyframes)
        for question, answer in zip(group, answers, strict=True):
            times = answer.keyframes.times_s
            hits += any(((times >= w.start_s) & (times < w.end_s)).any() for w in question.windows or ())
            asked += 1
    return 100 * hits / asked


def _truth(query: Question, duration_s: float) -> QueryTruth:
    windows = np.array([(window.start_s, window.end_s) for window in query.windows or ()])
    return QueryTruth(query.id, query.text, str(query.video), duration_s, windows, np.empty((0, 3)))
