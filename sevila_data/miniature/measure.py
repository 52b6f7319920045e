"""What the models of one seed reach on held-out videos: which frames help, which stages help, how many frames it takes.

Everything is kept per question, so that runs can be compared pair by pair.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lavis.common.files import write_text
from lavis.common.types import Floats, Integers, Question
from lavis.datasets.annotations import read_annotations
from lavis.models.base import FramePolicy, VideoModel
from lavis.models.frames import FrameSource
from lavis.models.pipeline import WatchedVideo, watch
from lavis.selection.policies.plain import Random, Uniform, Windows, top_positions, uniform_positions
from lavis.tasks.metrics.moment_retrieval import MomentScores, corrected_moment_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth, windows_of
from sevila_data.miniature.figures import EVIDENCE_SCORES, Measured

logger = logging.getLogger(__name__)

NUM_FRAMES = 32
NUM_KEYFRAMES = 4
_PROMPT = "multiple_choice"
# Scenes follow one another without a gap, so a single missed frame is all that may lie within a moment.
_MAX_GAP_FRAMES = 1

Positions = Mapping[str, Integers]
"""Question id -> the sampled frames that are read, in time order."""

# The Localizer after each way to train it, as stages laid over the base.
LOCALIZERS: dict[str, tuple[str, ...]] = {
    "untrained": (),
    "pre-trained": ("pretrain",),
    "refined only": ("refine_only",),
    "pre-trained and refined": ("refine",),
}
BEST = "pre-trained and refined"
# The Answerer after each way to train it; the last is the one that reads wherever nothing else is said.
ANSWERERS: dict[str, tuple[str, ...]] = {
    "nothing (base)": (),
    "random frames": ("finetune_random",),
    "localized frames": ("finetune",),
}
KEYFRAMES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Asked:
    """How a run answered the questions of a split.

    Attributes:
        right: question id -> 1.0 or 0.0.
        inside: percentage of questions with at least one of the frames inside the windows.
    """

    right: dict[str, float]
    inside: float


class Stages(Protocol):
    """The trained stages of one seed.

    Attributes:
        data: folder of the data set.
        base_folder: holds the base, and what all seeds of its stages share.
        folder: of the seed.
        base: number of the base.
    """

    data: Path
    base_folder: Path
    folder: Path
    base: int

    def model(self, *stages: str) -> VideoModel:
        """Load the base with the weights of stages laid over it."""
        ...


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

    def watch(self, model: VideoModel) -> dict[str, WatchedVideo]:
        """Let a model see every video."""
        folder = self._folder / "videos"
        return {name: watch(model, folder / f"{name}.mp4", num_frames=NUM_FRAMES) for name in self.questions}

    def score(self, watched: Mapping[str, WatchedVideo]) -> dict[str, list[float]]:
        """Let the Localizer score every frame for every question: question id -> [T]."""
        scores: dict[str, list[float]] = {}
        for name, questions in self.questions.items():
            found = watched[name].model.as_scorer(prompt=_PROMPT).score(watched[name].source, questions)
            scores |= {question.id: row.tolist() for question, row in zip(questions, found.scores, strict=True)}
        return scores

    def select(self, watched: Mapping[str, WatchedVideo], policy: FramePolicy, num_keyframes: int) -> Positions:
        """Choose frames without a Localizer."""
        chosen: dict[str, Integers] = {}
        for name, questions in self.questions.items():
            found = policy.choose(watched[name].source, questions, k=num_keyframes, scorer=None)
            chosen |= {question.id: one.positions for question, one in zip(questions, found, strict=True)}
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
            answerer = watched[name].model.as_answerer(prompt=_PROMPT, packing=reader)
            chosen = np.stack([positions[question.id] for question in questions])
            readings = answerer.answer(watched[name].source, chosen, questions)
            for row, question, reading in zip(chosen, questions, readings, strict=True):
                right[question.id] = float(reading.index == question.answer)
                inside.append(bool(_inside(watched[name].times_s[row], question).any()))
        return Asked(right, 100 * float(np.mean(inside)))

    def evidence(self, watched: Mapping[str, WatchedVideo], scores: Mapping[str, list[float]]) -> dict[str, float]:
        """Hold the Localizer's scores against the windows, each question the same: `EVIDENCE_SCORES` in percent."""
        found = []
        for name, questions in self.questions.items():
            for question in questions:
                inside = _inside(watched[name].times_s, question)
                order = np.argsort(-np.array(scores[question.id]), kind="stable")
                hits = np.cumsum(inside[order])
                chosen = hits[NUM_KEYFRAMES - 1]
                precision_at = hits / np.arange(1, len(hits) + 1)
                average = precision_at[inside[order]].mean()
                found.append((chosen / min(NUM_KEYFRAMES, inside.sum()), chosen / NUM_KEYFRAMES, average))
        means = 100 * np.mean(found, axis=0)
        return dict(zip(EVIDENCE_SCORES, means.tolist(), strict=True))

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
    frames = FrameSource(np.arange(len(times_s)), times_s)
    one = Windows().choose(frames, [question], k=1, scorer=None)[0].positions
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


def measure_run(run: Stages, *, max_videos: int | None = None) -> Measured:
    """Measure everything on the test split."""
    split = HeldOut(run.data, max_videos=max_videos)
    localized = {name: localize(run, split, name) for name in LOCALIZERS}
    scores = {name: row["scores"] for name, row in localized.items()}
    answerers: dict[str, Asked] = {}
    for name, stages in ANSWERERS.items():
        watched = split.watch(run.model(*stages))
        answerers[f"{name} / uniform"] = split.read(watched, split.select(watched, Uniform(), 4))
        answerers[f"{name} / localized"] = split.read(watched, best_positions(scores[BEST], 4))
    runs = {f"localizer, {name}": split.read(watched, best_positions(row, 4)) for name, row in scores.items()}
    runs |= _without_localizer(split, watched)
    counts = {str(count): split.read(watched, best_positions(scores[BEST], count)) for count in KEYFRAMES}
    for name, asked in runs.items():
        logger.info("%s: %.1f %%", name, 100 * sum(asked.right.values()) / len(asked.right))
    return Measured(
        videos=split.video_of,
        kinds=split.kind_of,
        runs=_marks(runs),
        inside={name: asked.inside for name, asked in runs.items()},
        answerers=_marks(answerers),
        keyframes=_marks(counts),
        moments={name: row["moments"] for name, row in localized.items()},
        evidence={name: row["evidence"] for name, row in localized.items()},
        base=run.base,
    )


def measure_so_far(run: Stages, *, max_videos: int | None = None) -> Measured:
    """Measure which frames the Localizers choose that are there, read by the base on the test split.

    What was measured before, on as many videos, is kept in files.
    """
    split = HeldOut(run.data, max_videos=max_videos)
    kept = run.folder / "chosen" / f"{len(split.questions)}_videos"
    base = split.watch(run.model())
    if not (kept / "others.json").is_file():
        _keep(kept / "others.json", _without_localizer(split, base))
    runs: dict[str, Asked] = {}
    for name, stages in LOCALIZERS.items():
        file = kept / f"{name.replace(' ', '_')}.json"
        if not all((run.folder / stage / "best").is_dir() for stage in stages):
            continue
        if not file.is_file():
            scores = split.score(split.watch(run.model(*stages)))
            _keep(file, {f"localizer, {name}": split.read(base, best_positions(scores, 4))})
        runs |= _kept(file)
    runs |= _kept(kept / "others.json")
    return Measured(
        videos=split.video_of,
        kinds=split.kind_of,
        runs=_marks(runs),
        inside={name: asked.inside for name, asked in runs.items()},
        answerers={},
        keyframes={},
        moments={},
        evidence={},
    )


def _keep(file: Path, asked: Mapping[str, Asked]) -> None:
    write_text(file, json.dumps({name: asdict(row) for name, row in asked.items()}) + "\n")


def _kept(file: Path) -> dict[str, Asked]:
    return {name: Asked(**row) for name, row in json.loads(file.read_text(encoding="utf-8")).items()}


def localize(run: Stages, split: HeldOut, name: str) -> dict[str, Any]:
    """Return a Localizer's scores of all frames and its moments, kept in a file.

    What no stage has touched is the same for all seeds, and scored once.
    """
    stages = LOCALIZERS[name]
    file = (run.folder if stages else run.base_folder) / "localizers" / f"{name.replace(' ', '_')}.json"
    if not file.is_file():
        watched = split.watch(run.model(*stages))
        moments = split.find(watched)
        shown = {
            "R1@0.5": moments.recall_at_1[0.5],
            "R1@0.7": moments.recall_at_1[0.7],
            "mAP": moments.mean_average_precision,
        }
        scores = split.score(watched)
        found = {"scores": scores, "moments": shown, "evidence": split.evidence(watched, scores)}
        write_text(file, json.dumps(found) + "\n")
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def _without_localizer(split: HeldOut, watched: Mapping[str, WatchedVideo]) -> dict[str, Asked]:
    """Measure what needs no Localizer."""
    everything = split.select(watched, Uniform(), NUM_FRAMES)
    return {
        "uniform": split.read(watched, split.select(watched, Uniform(), 4)),
        "random": split.read(watched, split.select(watched, Random(), 4)),
        "vote of all frames": split.read(watched, everything, reader="per_frame"),
        "oracle": split.read(watched, split.select(watched, Windows(), 4)),
        "oracle, one frame": split.read(watched, split.select(watched, Windows(), 1)),
        "oracle's one among four": split.read(watched, split.one_of_four(watched)),
    }


def _marks(asked: Mapping[str, Asked]) -> dict[str, dict[str, float]]:
    return {name: row.right for name, row in asked.items()}
