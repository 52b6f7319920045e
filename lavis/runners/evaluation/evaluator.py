"""An evaluation: watch each clip once, ask it all its questions, and write down what was said.

T frames of one video, K keyframes, O options.
"""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lavis.common.distributed import World
from lavis.common.errors import BrokenModelError, ConfigError, NoAnswerError, NotFiniteError, VideoError
from lavis.common.files import write_text
from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import Unreadable, VideoQuestionDataset
from lavis.models.base import TrainableModel
from lavis.models.chain import selector_name
from lavis.models.fingerprint import video_digest
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameSource
from lavis.models.loading import speed_up
from lavis.models.pipeline import FrameMemory
from lavis.models.precision import check_quantization
from lavis.runners.build import build_builder, build_clips, load_for
from lavis.runners.config import EvaluationConfig, task_of, weight_paths
from lavis.runners.evaluation.results import (
    COST,
    METRICS,
    REPORT,
    SUBMISSION,
    Fingerprint,
    PredictionStore,
    fingerprint_of,
)
from lavis.runners.progress import Pace
from lavis.runners.provenance import record
from lavis.tasks.build import PublishedTask
from lavis.tasks.metrics.cost import cost_metrics
from lavis.tasks.metrics.moments import moment_metrics, moment_predictions
from lavis.tasks.metrics.questions import TYPE_GROUPS, question_metrics
from lavis.tasks.metrics.submission import write_submission
from lavis.tasks.predictions import Asker, ClipLoader, Prediction, build_asker, measure_registered, unread_prediction
from lavis.tasks.report import report

logger = logging.getLogger(__name__)


class CachedClips:
    """Clips of a dataset, by the index of a question about them; `sampling` is how it reads frames, as JSON values."""

    def __init__(self, memory: FrameMemory, dataset: VideoQuestionDataset, *, sampling: Mapping[str, Any]) -> None:
        self._memory, self._dataset, self._sampling = memory, dataset, dict(sampling)
        self._keys: dict[int, str] = {}

    def recall(self, index: int) -> FrameSource | None:
        """Return a clip, or None where it was not watched before or its video cannot be read."""
        try:
            # For whoever looks at pictures; what the model reads is there.
            opened = partial(self._dataset.open_video, index)
            return self._memory.load(self._key(index), open_video=opened, together=self._memory.encoders)
        except VideoError:  # reading it says why
            return None

    def keep(self, index: int, frames: FrameSource) -> None:
        """Keep a clip that was just read, unless it cannot be decoded: asking says why."""
        with contextlib.suppress(VideoError):
            self._memory.keep(self._key(index), frames)

    def _key(self, index: int) -> str:
        if index not in self._keys:
            clip = self._dataset.annotations[index].question.clip
            span = [clip.start_s, clip.end_s] if clip else None
            self._keys[index] = self._memory.key(self._dataset.find_video(index), clip=span, **self._sampling)
        return self._keys[index]


@dataclass(frozen=True, slots=True)
class ClipGroup:
    """All questions about the same part of the same video.

    Attributes:
        indices: places of the questions in the annotation file.
        ids: the questions' ids.
    """

    indices: tuple[int, ...]
    ids: tuple[str, ...]


def group_by_clip(annotations: Sequence[Annotation]) -> list[ClipGroup]:
    """Put questions together that the same frames are read for, in the order of their first one."""
    members: dict[tuple[str | None, str | None, Span | None], list[int]] = {}
    for index, row in enumerate(annotations):
        members.setdefault((row.source, row.question.video, row.question.clip), []).append(index)
    return [
        ClipGroup(tuple(indices), tuple(annotations[index].question.id for index in indices))
        for indices in members.values()
    ]


def digest_of(dataset: VideoQuestionDataset, group: ClipGroup) -> str | None:
    """Return the SHA-256 of the video that questions are about; None if there is none."""
    try:
        return video_digest(dataset.find_video(group.indices[0]))
    except VideoError:
        return None


class Evaluator:
    """Evaluates one process's share of a split.

    A clip is encoded, and asked all its questions, in calls of its own: scores do not depend on the batch size, on the
    number of processes, or on what was done before.

    Args:
        clips: reads the clips of the split.
        cached: clips that an earlier run has watched; None looks for none.
    """

    def __init__(
        self, parts: "EvaluationParts", *, clips: ClipLoader, world: World, cached: CachedClips | None = None
    ) -> None:
        self._model, self._asker, self._dataset, self._world = parts.model, parts.asker, parts.dataset, world
        self._loader, self._cached = clips, cached

    def predictions(self, groups: Sequence[ClipGroup]) -> Iterator[list[Prediction]]:
        """Yield the predictions of each group in this process's share of `groups`."""
        mine = groups[self._world.rank :: self._world.size]
        pace = Pace("evaluation", sum(len(group.ids) for group in mine))
        for group, clip in self.clips(mine):
            questions = questions_of(self._dataset, group)
            digest = digest_of(self._dataset, group)
            yield [replace(one, video_sha256=digest) for one in answered(self._asker, questions, clip)]
            pace.step(len(questions))

    def clips(self, groups: Sequence[ClipGroup]) -> Iterator[tuple[ClipGroup, FrameSource | Unreadable]]:
        """Yield the frames of each group, or why there are none; those that are remembered come first."""
        new = []
        for group in groups:
            clip = self._cached.recall(group.indices[0]) if self._cached else None
            if clip is None:
                new.append(group)
            else:
                yield group, clip
        group_of = {group.ids[0]: group for group in new}
        for question, read in self._loader.read(self._model, [group.indices[0] for group in new]):
            group = group_of[question.id]
            if self._cached and isinstance(read, FrameSource):
                self._cached.keep(group.indices[0], read)
            yield group, read


def questions_of(dataset: VideoQuestionDataset, group: ClipGroup) -> list[Question]:
    """Return the questions of a group."""
    return [dataset.annotations[index].question for index in group.indices]


@torch.inference_mode()
def answered(asker: Asker, questions: Sequence[Question], clip: FrameSource | Unreadable) -> list[Prediction]:
    """Ask all questions about one clip, and note the time; a question that cannot be asked gets the reason."""
    if isinstance(clip, Unreadable):
        return _unread(questions, clip.reason)
    started = time.perf_counter()
    found = _predict(asker, clip, questions)
    seconds = (time.perf_counter() - started) / len(questions)
    return [replace(one, seconds=seconds, cost=one.cost and replace(one.cost, seconds=seconds)) for one in found]


def _predict(asker: Asker, frames: FrameSource, questions: Sequence[Question]) -> list[Prediction]:
    """Ask all questions together; where one cannot be read, each alone, so that only that one fails."""
    try:
        return asker.ask(frames, questions)
    except BrokenModelError:
        raise
    except (NotFiniteError, NoAnswerError, VideoError) as error:
        if len(questions) > 1:
            return [found for question in questions for found in _predict(asker, frames, [question])]
        return _unread(questions, str(error))


def _unread(questions: Sequence[Question], reason: str) -> list[Prediction]:
    logger.warning("unreadable, %d questions: %s", len(questions), reason)
    return [unread_prediction(question, reason) for question in questions]


@dataclass(frozen=True)
class EvaluationParts:
    """What is evaluated, on what, and how."""

    model: TrainableModel
    task: PublishedTask
    dataset: VideoQuestionDataset
    groups: list[ClipGroup]
    searches: bool
    asker: Asker
    fingerprint: Fingerprint


def evaluate(
    config: EvaluationConfig,
    world: World,
    *,
    cache: FrameCache | None = None,
    quantize: str | None = None,
    compiled: bool = False,
) -> dict[str, Any]:
    """Evaluate, or resume an evaluation that was stopped; to be called by every process.

    Args:
        cache: where clips are kept once they were watched; None keeps none.
        quantize, compiled: as in `load_model`.

    Returns:
        The metrics, to the first process; what the others get means nothing.

    Raises:
        UserError: something that the configuration names is unknown, missing or damaged, or the output folder holds
            predictions that were made differently.
    """
    parts = build_parts(config, world, quantize=quantize, compiled=compiled)
    run, folder = config.base.run, Path(config.base.run.output_dir)
    store = PredictionStore(folder, rank=world.rank)
    questions = {question.id: question for question in parts.dataset.questions}
    earlier = store.read_earlier(
        parts.fingerprint,
        [group.ids for group in parts.groups],
        resume=run.resume,
        misfit=lambda one: one.misfit(questions[one.id]) if one.id in questions else "no question has this id",
    )
    digests = digests_of(parts.dataset, [group for group in parts.groups if group.ids[0] in earlier], world)
    earlier = about_the_same_videos(earlier, parts.groups, digests, world)
    speed_up(parts.model, quantize=quantize, compiled=compiled)
    world.wait()
    if world.is_main:
        if earlier:
            logger.info("going on: %d of %d questions are done", len(earlier), len(parts.dataset))
        store.begin(earlier.values(), facts_of(config, parts))
        record(config.base, folder, world)
    world.wait()
    evaluator = build_evaluator(config, parts, world, cache=cache)
    store.append(evaluator.predictions([group for group in parts.groups if group.ids[0] not in earlier]))
    world.wait()
    if not world.is_main:
        return {}
    predictions = store.finish([question.id for question in parts.dataset.questions])
    return write_results(config, parts, predictions)


def digests_of(dataset: VideoQuestionDataset, groups: Sequence[ClipGroup], world: World) -> dict[str, str | None]:
    """Return `digest_of` each group by its first id, to all processes; each looks at its share of the videos."""
    mine = {group.ids[0]: digest_of(dataset, group) for group in groups[world.rank :: world.size]}
    return {first: digest for found in world.gather(mine) for first, digest in found.items()}


def about_the_same_videos(
    earlier: dict[str, Prediction], groups: Sequence[ClipGroup], digests: Mapping[str, str | None], world: World
) -> dict[str, Prediction]:
    """Return the predictions whose videos are still what they were; `digests` as `digests_of` returns them."""
    again = {
        qid: earlier[qid].video
        for group in groups
        if group.ids[0] in earlier and {earlier[qid].video_sha256 for qid in group.ids} != {digests[group.ids[0]]}
        for qid in group.ids
    }
    if again and world.is_main:
        names = ", ".join(list(dict.fromkeys(again.values()))[:3])
        logger.warning("%d questions are asked again: their videos have changed since, such as %s", len(again), names)
    return {qid: one for qid, one in earlier.items() if qid not in again}


def build_evaluator(
    config: EvaluationConfig, parts: EvaluationParts, world: World, *, cache: FrameCache | None
) -> Evaluator:
    """Build what asks this process's share of the questions."""
    cached = None
    if cache and parts.model.encoders:
        dataset = config.base.dataset
        videos = dataset.build_info.videos
        sampling = {"processor": asdict(dataset.vis_processor.eval), "reader": videos.reader, "fps": videos.fps}
        cached = CachedClips(FrameMemory(cache, parts.model), parts.dataset, sampling=sampling)
    is_rate = config.base.dataset.vis_processor.eval.sample_fps is not None
    clips = build_clips(config.base.run, parts.dataset, world, is_rate=is_rate)
    return Evaluator(parts, clips=clips, world=world, cached=cached)


def build_parts(
    config: EvaluationConfig, world: World, *, quantize: str | None = None, compiled: bool = False
) -> EvaluationParts:
    """Load the model and the split, and make sure that all processes are about to do the same; errors as `evaluate`.

    Args:
        quantize, compiled: what will be done to the model, which predictions depend on; it is not done yet.
    """
    if quantize is not None:
        check_quantization(quantize)
    task = task_of(config.base)
    # As the first of all: parts that are drawn at random are the same in every process.
    model = load_for(config.base, World(device=world.device), chain=config.chain).eval()
    dataset = build_builder(config.base, model).build_evaluation(config.split)
    assert isinstance(dataset, VideoQuestionDataset), "the configuration names one dataset"
    searches = holds_searches(dataset.annotations)
    prompt, count = config.base.dataset.prompt, config.base.model.frame_num
    asker = build_asker(
        model,
        searches=searches,
        task=task,
        prompt=prompt,
        frame_num=count,
        token_budget=config.base.model.token_budget,
    )
    fingerprint = fingerprint_of(config, model, task, asker, quantize=quantize, compiled=compiled)
    if any(other != fingerprint for other in world.gather(fingerprint)):
        raise ConfigError(
            "the processes do not evaluate the same weights and questions; give all of them the same files"
        )
    return EvaluationParts(
        model=model,
        task=task,
        dataset=dataset,
        groups=group_by_clip(dataset.annotations),
        searches=searches,
        asker=asker,
        fingerprint=fingerprint,
    )


def holds_searches(annotations: Sequence[Annotation]) -> bool:
    """Say whether a split is for moment retrieval.

    Raises:
        ConfigError: it holds questions with options and searches.
    """
    searches = [not row.question.options for row in annotations]
    if any(searches) != all(searches):
        ids = annotations[searches.index(False)].question.id, annotations[searches.index(True)].question.id
        raise ConfigError(f"the split holds questions ({ids[0]!r}) and searches ({ids[1]!r}); evaluate them apart")
    return any(searches)


def facts_of(config: EvaluationConfig, parts: EvaluationParts) -> dict[str, Any]:
    """Return what there is to know about an evaluation beside its metrics, as JSON values."""
    base = config.base
    return {
        "kind": "moments" if parts.searches else "questions",
        "dataset": base.dataset_name,
        "split": config.split,
        "annotations": str(base.dataset.annotations[config.split]),
        "model": parts.model.config.name,
        "finetuned": [str(path) for path in weight_paths(base.model.finetuned)],
        "weights": {"status": parts.model.config.weights.status, "note": parts.model.config.weights.note},
        "task": base.model.task,
        "recipe": base.run.recipe,
        "frames": {
            "reader": parts.task.reader,
            "selector": selector_name(parts.task.selector),
            "num_frames": base.dataset.vis_processor.eval.n_frms,
            "sample_fps": base.dataset.vis_processor.eval.sample_fps,
            "frame_num": base.model.frame_num,
            "keyframes": parts.task.keyframes,
            "token_budget": base.model.token_budget,
        },
        "quantize": parts.fingerprint["quantize"],
        "fingerprint": parts.fingerprint,
    }


def write_results(
    config: EvaluationConfig, parts: EvaluationParts, predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Write metrics, cost, report and, for moment retrieval, the submission; return the metrics."""
    folder, rows = Path(config.base.run.output_dir), parts.dataset.annotations
    facts = {name: value for name, value in facts_of(config, parts).items() if name != "fingerprint"}
    if parts.searches:
        measured = moment_metrics(predictions, rows, spans=config.spans)
        write_submission(folder / SUBMISSION, moment_predictions(predictions, rows, spans=config.spans))
    else:
        groups = TYPE_GROUPS.get(config.base.dataset_name)
        measured = question_metrics(predictions, rows, spans=config.spans, groups=groups)
    registered = measure_registered(predictions, rows)
    metrics = {
        **facts,
        "spans": asdict(config.spans),
        **measured,
        **({"metrics": registered} if registered else {}),
    }
    write_text(folder / METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    # A file of its own: a run that was stopped, other processes and a cache change what is spent, and no figure.
    cost = cost_metrics(predictions)
    write_text(folder / COST, json.dumps(cost, indent=2) + "\n")
    write_text(folder / REPORT, report(metrics, predictions, cost=cost))
    return metrics
