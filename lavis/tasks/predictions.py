"""Reading the clips of a split, asking a model about each, and what it says, as one line of `predictions.jsonl`.

Evaluation and validation ask alike, and measure whatever metric is registered on what was said.

T frames of one video, K keyframes, O options.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from numbers import Real
from typing import Any, Protocol

import numpy as np

from lavis.common.config import from_mapping
from lavis.common.errors import ConfigError, UserError
from lavis.common.registry import registry
from lavis.common.types import Cost, Floats, Question, Unread
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import QuestionDataset, SampleKey, Unreadable, VideoQuestionDataset, build_loader
from lavis.models.base import Answerer, FrameScorer, ImageTextModel, VideoModel
from lavis.models.chain import Selector, build_selector, cost_of, prepared_frames, select_and_answer
from lavis.models.frames import FrameSource
from lavis.tasks.build import PublishedTask, count_keyframes

logger = logging.getLogger(__name__)

# What validation measures by itself.
ACCURACY, FRAME_AP, FRAME_ACCURACY = "accuracy", "frame_ap", "frame_accuracy"
_MEASURED_ANYWAY = (ACCURACY, FRAME_AP, FRAME_ACCURACY, "questions", "unreadable")
_CHECKSUM = "checksum"
# What rows of earlier versions lack.
_ADDED = {"video_sha256", "subtitles_cut", "cost", _CHECKSUM}
# What is another each time: how long it took, and what was at hand already.
_PASSING = {"seconds", "cost"}


Read = FrameSource | Unreadable


class ClipLoader:
    """Reads clips of a dataset, `batch_size` in one go; the other arguments are those of `build_loader`.

    Clips of different numbers of frames do not make a batch: with `batch_size` 1 they may have any.
    """

    def __init__(
        self,
        dataset: QuestionDataset,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        timeout_s: float = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset, self._batch_size = dataset, batch_size
        self._load = partial(build_loader, num_workers=num_workers, timeout_s=timeout_s, pin_memory=pin_memory)
        # None where datasets are mixed: their ids may be the same.
        self._rows = dataset if isinstance(dataset, VideoQuestionDataset) else None
        rows = self._rows.annotations if self._rows else ()
        self._index = {row.question.id: index for index, row in enumerate(rows)}

    def annotation(self, question: Question) -> Annotation:
        """Return the row that a question was read from; where datasets are mixed, one with nothing but the question."""
        return self._rows.annotations[self._index[question.id]] if self._rows else Annotation(question)

    def read(self, model: ImageTextModel, indices: Sequence[int]) -> Iterator[tuple[Question, Read]]:
        """Yield the questions at these indices with frames as the model takes them, or with why there are none."""
        keys = [SampleKey(0, index) for index in indices]
        steps = [keys[start : start + self._batch_size] for start in range(0, len(keys), self._batch_size)]
        # Starting workers for nothing takes seconds.
        batches = self._load(self.dataset, steps) if steps else ()
        # For whoever looks at pictures; what SeViLA reads is decoded already.
        open_video = getattr(self.dataset, "open_video", None)
        for step, batch in zip(steps, batches, strict=False):
            for row, question in enumerate(batch.questions):
                opened = partial(open_video, step[batch.places[row]].index) if open_video else None
                pixels = batch.pixels[row]
                yield (
                    question,
                    prepared_frames(
                        model,
                        pixels if pixels.numel() else None,
                        frame_idx=batch.frame_idx[row],
                        times_s=batch.times_s[row],
                        open_video=opened,
                        decoded=len(batch.frame_idx[row].unique()) if pixels.numel() else 0,
                    ),
                )
            yield from ((one.question, one) for one in batch.unreadable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was said about one question, and from which frames.

    Attributes:
        id: the question's id.
        answer: index of the right option as annotated; None if it is not known, or for a search.
        choice: index of the chosen option; None for a search, and where the video could not be read.
        option_scores: [O], the logit of each option's letter (the mean over frames where each is read alone); empty
            where the model tells its choice alone.
        frame_choices: [K], each frame's own choice where frames are read alone.
        keyframe_idx: [K], the frames that were read, as indices into the source video.
        keyframe_times_s: [K].
        frame_times_s: [T], all sampled frames.
        frame_scores: [T], how well they suit the question: the logit of "yes", or for a search the margin
            "yes" minus "no". Empty where the selector scores no frames.
        cut: the question was too long for the model and lost its end.
        unspelt: parts of it that the model's vocabulary cannot spell.
        seconds: time spent on it; what was done once for several questions is divided among them.
        unreadable: why there is no answer: the video could not be read, the scores are not finite, or what the model
            said is none of the options; else None.
        subtitles_cut: how many subtitles of the frames that were read were left out, being too long together.
        video_sha256: of the video's bytes, which it was said about; None where there is no video.
        cost: its share of what was done for it and others; None where nothing was said, and in earlier versions.
    """

    id: str
    video: str
    answer: int | None = None
    choice: int | None = None
    option_scores: tuple[float, ...] = ()
    frame_choices: tuple[int, ...] = ()
    keyframe_idx: tuple[int, ...] = ()
    keyframe_times_s: tuple[float, ...] = ()
    frame_times_s: tuple[float, ...] = ()
    frame_scores: tuple[float, ...] = ()
    cut: bool = False
    unspelt: tuple[str, ...] = ()
    seconds: float = 0.0
    unreadable: str | None = None
    subtitles_cut: int = 0
    video_sha256: str | None = None
    cost: Cost | None = field(default=None, compare=False)

    @property
    def is_right(self) -> bool:
        """Whether the right option was chosen; a video that could not be read is wrong."""
        return self.answer is not None and self.choice == self.answer

    def as_row(self) -> dict[str, Any]:
        """Return plain JSON values, with a checksum of all but time and cost."""
        row = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        row["cost"] = asdict(self.cost) if self.cost else None
        return {**row, _CHECKSUM: checksum_of(row)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, place: str) -> "Prediction":
        """Read what `as_row` made.

        Raises:
            UserError: the row is something else, or was changed since.
        """
        names = {*(entry.name for entry in fields(cls)), _CHECKSUM}
        odd = sorted((row.keys() ^ names) - (_ADDED - row.keys()))
        if odd:
            raise UserError(
                f"{place} is not a prediction of this version ({odd[0]!r:.80}); evaluate again in another folder"
            )
        values = {name: value for name, value in row.items() if name != _CHECKSUM}
        try:
            found = from_mapping(cls, values, place=f"{place}: the row of {row['id']!r}")
        except ConfigError as error:
            raise UserError(str(error)) from error
        wrong = _wrong(found)
        if wrong is None and row.get(_CHECKSUM) not in (None, checksum_of(values)):
            wrong = "it fails its checksum"
        if wrong is not None:
            raise UserError(f"{place}: the row of {found.id!r} is damaged: {wrong}")
        return found

    def misfit(self, question: Question) -> str | None:
        """Say why this cannot have been said about a question; None if it can."""
        if self.video != (question.video or ""):
            return f"it is about the video {self.video!r}, not {question.video!r}"
        if self.answer != question.answer:
            return f"its annotated answer is {self.answer}, not {question.answer}"
        said, there = len(self.option_scores), len(question.options)
        fits = said in (0, there) and (self.choice in range(there) if there else self.choice is None)
        if self.unreadable is None and not fits:
            return f"it chose {self.choice} of {said} options, and there are {there}"
        return None


def _wrong(prediction: Prediction) -> str | None:
    """Say what no prediction holds; None if there is nothing."""
    for name in ("option_scores", "keyframe_times_s", "frame_times_s", "frame_scores"):
        if not all(map(math.isfinite, getattr(prediction, name))):
            return f"{name} hold what is not finite"
    if not math.isfinite(prediction.seconds):
        return f"it took {prediction.seconds} seconds"
    if prediction.cost and not all(math.isfinite(part or 0) for part in asdict(prediction.cost).values()):
        return "its cost holds what is not finite"
    if prediction.unreadable is not None and prediction.choice is not None:
        return f"it chose {prediction.choice}, and the video could not be read"
    options = range(len(prediction.option_scores))
    if prediction.choice is not None and (prediction.choice < 0 or (options and prediction.choice not in options)):
        return f"choice {prediction.choice} is none of {len(prediction.option_scores)} options"
    if prediction.frame_scores and len(prediction.frame_scores) != len(prediction.frame_times_s):
        return f"it has {len(prediction.frame_scores)} scores of {len(prediction.frame_times_s)} frames"
    return None


def checksum_of(row: Mapping[str, Any]) -> str:
    """Return a checksum of a row of JSON values, but for the time it took and what it cost."""
    content = {name: value for name, value in row.items() if name not in _PASSING}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class ChoiceAsker:
    """Chooses as many keyframes for each question as the task says, or else `frame_num`, and an option from them.

    Args:
        token_budget: as many as this many tokens of the Answerer hold, whatever the task says.
    """

    def __init__(
        self,
        *,
        selector: Selector,
        answerer: Answerer,
        task: PublishedTask,
        frame_num: int,
        token_budget: int | None = None,
    ) -> None:
        self._selector, self._answerer = selector, answerer
        self._task, self._frame_num, self._token_budget = task, frame_num, token_budget
        self._noted: set[str] = set()

    def ask(self, frames: FrameSource, questions: Sequence[Question]) -> list[Prediction]:
        """Answer questions with options.

        Raises:
            ConfigError: a score is no number.
        """
        started = time.perf_counter()
        count = count_keyframes(self._task, frame_num=self._frame_num, num_frames=len(frames))
        found = select_and_answer(
            frames,
            questions,
            selector=self._selector,
            answerer=self._answerer,
            k=self._selector.k or count,
            token_budget=self._token_budget,
        )
        self._note(note for _, reading in found for note in reading.unread.notes)
        cost = cost_of(frames, found, answerer=self._answerer, seconds=time.perf_counter() - started)
        return [
            Prediction(
                id=question.id,
                video=question.video or "",
                answer=question.answer,
                choice=reading.index,
                option_scores=_finite(reading.option_scores, question),
                frame_choices=tuple(reading.frame_choices.tolist()),
                keyframe_idx=tuple(frames.frame_idx[selection.positions].tolist()),
                keyframe_times_s=tuple(frames.times_s[selection.positions].tolist()),
                frame_times_s=tuple(frames.times_s.tolist()),
                frame_scores=() if np.isnan(selection.scores).any() else _finite(selection.scores, question),
                cut=selection.unread.truncated or reading.unread.truncated,
                unspelt=(selection.unread | reading.unread).unspelt,
                subtitles_cut=reading.unread.subtitles,
                cost=cost.share(len(questions)),
            )
            for question, (selection, reading) in zip(questions, found, strict=True)
        ]

    def _note(self, notes: Iterable[str]) -> None:
        """Say what rows do not hold, each once."""
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                logger.warning(note)


class SearchAsker:
    """Says of every frame how well it matches a search; moments are made of that later."""

    def __init__(self, *, scorer: FrameScorer) -> None:
        self._scorer = scorer

    def ask(self, frames: FrameSource, questions: Sequence[Question]) -> list[Prediction]:
        """Score all frames for each search."""
        started = time.perf_counter()
        found = self._scorer.score(frames, questions)
        seconds, scored = time.perf_counter() - started, int(np.isfinite(found.scores).sum())
        cost = Cost(frames.newly_decoded(), scored, scorer_calls=1, seconds=seconds).share(len(questions))
        return [
            replace(search_prediction(question, frames.times_s, margins, lost), cost=cost)
            for question, margins, lost in zip(questions, found.margins, found.unread, strict=True)
        ]


def search_prediction(question: Question, times_s: Floats, margins: Floats, unread: Unread) -> Prediction:
    """Return what was said of a search: the margins [T] of its frames."""
    return Prediction(
        id=question.id,
        video=question.video or "",
        frame_times_s=tuple(times_s.tolist()),
        frame_scores=_finite(margins, question),
        cut=unread.truncated,
        unspelt=unread.unspelt,
    )


def unread_prediction(question: Question, reason: str) -> Prediction:
    """Return what stands for a question that could not be asked."""
    return Prediction(id=question.id, video=question.video or "", answer=question.answer, unreadable=reason)


def _finite(scores: Floats, question: Question) -> tuple[float, ...]:
    """Return scores as plain numbers; those that are none would make a choice that looks like any other."""
    if not np.isfinite(scores).all():
        raise ConfigError(
            f"question {question.id!r} has scores that are not finite; try another model.dtype, or check the weights"
        )
    return tuple(scores.tolist())


Asker = ChoiceAsker | SearchAsker


def build_asker(
    model: VideoModel,
    *,
    searches: bool,
    task: PublishedTask,
    prompt: str,
    frame_num: int,
    token_budget: int | None = None,
) -> Asker:
    """Build what asks the questions of a split, or its searches, which have no options."""
    if searches:
        return SearchAsker(scorer=model.as_scorer(prompt=prompt))
    selector = build_selector(task.selector, model, prompt=prompt)
    answerer = model.as_answerer(prompt=prompt, packing=task.reader)
    return ChoiceAsker(selector=selector, answerer=answerer, task=task, frame_num=frame_num, token_budget=token_budget)


class Metric(Protocol):
    """Measures a split; a function or a class without arguments, by name in `registry.metrics`."""

    def __call__(self, predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> float | None:
        """Return a number, higher being better; None where the metric does not apply.

        Args:
            predictions: what was said about each question of the split; `unreadable` says why nothing was.
            annotations: the questions, in the same order.
        """
        ...


def metric_names() -> list[str]:
    """Return the names of all registered metrics.

    Raises:
        ConfigError: one has the name of one that is measured anyway.
    """
    names = registry.metrics.names()
    for name in names:
        if name in _MEASURED_ANYWAY:
            raise ConfigError(f"the metric {name!r} has the name of a metric of this package; give it another")
    return names


def measure_registered(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> dict[str, float]:
    """Return the values of all registered metrics that apply, by name.

    Raises:
        ConfigError: a metric has such a name, or says something that is no number.
    """
    found = {}
    for name in metric_names():
        metric = registry.metrics.get(name)
        value = (metric() if isinstance(metric, type) else metric)(predictions, annotations)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ConfigError(f"the metric {name!r} gave {value!r:.80}; it must be a finite number, or None")
        found[name] = float(value)
    return found
