"""A whole evaluation: from a configuration to predictions, figures and a report."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.files import write_text
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import VideoQuestionDataset
from lavis.models.frame_cache import FrameCache
from lavis.models.loading import speed_up
from lavis.models.quantize import check_quantization
from lavis.models.sevila.model import SeViLA
from lavis.models.watching import FrameMemory
from lavis.runners.build import build_builder, load_for, record
from lavis.runners.checks import task_of
from lavis.runners.evaluation.config import EvaluationConfig
from lavis.runners.evaluation.evaluator import ClipGroup, Evaluator, digest_of, group_by_clip
from lavis.runners.evaluation.fingerprint import Fingerprint, annotation_file, fingerprint_of
from lavis.runners.evaluation.remembered import RememberedClips
from lavis.runners.evaluation.scoring import AnswerScorer, SearchScorer, build_scorer
from lavis.runners.evaluation.store import METRICS, REPORT, SUBMISSION, PredictionStore
from lavis.runners.weights import weight_paths
from lavis.tasks.evaluation.moments import moment_metrics, moment_predictions
from lavis.tasks.evaluation.predictions import Prediction
from lavis.tasks.evaluation.questions import TYPE_GROUPS, question_metrics
from lavis.tasks.evaluation.report import report
from lavis.tasks.metrics.submission import write_submission
from lavis.tasks.published import PublishedTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What is evaluated, on what, and how."""

    model: SeViLA
    task: PublishedTask
    dataset: VideoQuestionDataset
    groups: list[ClipGroup]
    searches: bool
    scorer: AnswerScorer | SearchScorer
    fingerprint: Fingerprint


def evaluate(
    config: EvaluationConfig,
    world: World,
    *,
    cache: FrameCache | None = None,
    quantize: str | None = None,
    compiled: bool = False,
) -> dict[str, Any]:
    """Evaluate, or go on with an evaluation that was stopped; to be called by every process.

    Args:
        cache: where clips are kept once they were watched; None keeps none.
        quantize, compiled: as in `load_model`.

    Returns:
        The figures, to the first process; what the others get means nothing.

    Raises:
        UserError: something that the configuration names is unknown, missing or damaged, or the output folder holds
            predictions that were made differently.
    """
    parts = build_parts(config, world, quantize=quantize, compiled=compiled)
    run, folder = config.base.run, Path(config.base.run.output_dir)
    store = PredictionStore(folder, rank=world.rank)
    questions = {question.id: question for question in parts.dataset.questions}
    earlier = _about_the_same_videos(
        store.read_earlier(
            parts.fingerprint,
            parts.groups,
            resume=run.resume,
            misfit=lambda one: one.misfit(questions[one.id]) if one.id in questions else "no question has this id",
        ),
        parts,
        world,
    )
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


def _about_the_same_videos(earlier: dict[str, Prediction], parts: Parts, world: World) -> dict[str, Prediction]:
    """Return the predictions whose videos are still what they were; every process looks at its share of them."""
    groups = [group for group in parts.groups if group.ids[0] in earlier]
    changed = [
        group
        for group in groups[world.rank :: world.size]
        if {earlier[qid].video_sha256 for qid in group.ids} != {digest_of(parts.dataset, group)}
    ]
    again = {qid: earlier[qid].video for found in world.gather(changed) for group in found for qid in group.ids}
    if again and world.is_main:
        names = ", ".join(list(dict.fromkeys(again.values()))[:3])
        logger.warning("%d questions are asked again: their videos have changed since, such as %s", len(again), names)
    return {qid: one for qid, one in earlier.items() if qid not in again}


def build_evaluator(config: EvaluationConfig, parts: Parts, world: World, *, cache: FrameCache | None) -> Evaluator:
    """Build what asks this process's share of the questions."""
    run = config.base.run
    return Evaluator(
        parts.model,
        scorer=parts.scorer,
        dataset=parts.dataset,
        world=world,
        batch_size=run.batch_size_eval,
        num_workers=run.num_workers,
        timeout_s=run.data_timeout_s,
        remembered=remembered_clips(config, parts, cache) if cache else None,
    )


def build_parts(
    config: EvaluationConfig, world: World, *, quantize: str | None = None, compiled: bool = False
) -> Parts:
    """Load the model and the split, and make sure that all processes are about to do the same.

    Args:
        quantize, compiled: what will be done to the model, which predictions depend on; it is not done yet.

    Raises:
        UserError: see `evaluate`.
    """
    if quantize is not None:
        check_quantization(quantize)
    task = task_of(config.base)
    # As the first of all: parts that are drawn at random are the same in every process.
    model = load_for(config.base, World(device=world.device)).eval()
    dataset = build_builder(config.base, model).build_evaluation(config.split)
    assert isinstance(dataset, VideoQuestionDataset), "the configuration names one dataset"
    searches = holds_searches(dataset.annotations)
    prompt, count = config.base.dataset.prompt, config.base.model.frame_num
    scorer = build_scorer(model, searches=searches, task=task, prompt=prompt, frame_num=count)
    fingerprint = fingerprint_of(config, model, task, scorer, quantize=quantize, compiled=compiled)
    if any(other != fingerprint for other in world.gather(fingerprint)):
        raise ConfigError(
            "the processes do not evaluate the same weights and questions; give all of them the same files"
        )
    return Parts(
        model=model,
        task=task,
        dataset=dataset,
        groups=group_by_clip(dataset.annotations),
        searches=searches,
        scorer=scorer,
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


def remembered_clips(config: EvaluationConfig, parts: Parts, cache: FrameCache) -> RememberedClips:
    """Return the clips of the split that this model has watched before."""
    dataset = config.base.dataset
    videos = dataset.build_info.videos
    sampling = {"processor": asdict(dataset.vis_processor.eval), "reader": videos.reader, "fps": videos.fps}
    return RememberedClips(FrameMemory(cache, parts.model), parts.dataset, sampling=sampling)


def facts_of(config: EvaluationConfig, parts: Parts) -> dict[str, Any]:
    """Return what there is to know about an evaluation beside its figures, as JSON values."""
    base = config.base
    dataset = base.dataset
    frames = {
        "reader": parts.task.reader,
        "selector": parts.task.selector,
        "num_frames": dataset.vis_processor.eval.n_frms,
    }
    return {
        "kind": "moments" if parts.searches else "questions",
        "dataset": base.dataset_name,
        "split": config.split,
        "annotations": str(annotation_file(config)),
        "model": parts.model.config.name,
        "finetuned": [str(path) for path in weight_paths(base.model.finetuned)],
        "weights": {"status": parts.model.config.weights.status, "note": parts.model.config.weights.note},
        "task": base.model.task,
        "recipe": base.run.recipe,
        "frames": {**frames, "frame_num": base.model.frame_num, "keyframes": parts.task.keyframes},
        "quantize": parts.fingerprint["quantize"],
        "fingerprint": parts.fingerprint,
    }


def write_results(config: EvaluationConfig, parts: Parts, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Write figures, report and, for moment retrieval, the submission; return the figures."""
    folder, rows = Path(config.base.run.output_dir), parts.dataset.annotations
    facts = {name: value for name, value in facts_of(config, parts).items() if name != "fingerprint"}
    if parts.searches:
        figures = moment_metrics(predictions, rows, spans=config.spans)
        write_submission(folder / SUBMISSION, moment_predictions(predictions, rows, spans=config.spans))
    else:
        groups = TYPE_GROUPS.get(config.base.dataset_name)
        figures = question_metrics(predictions, rows, spans=config.spans, groups=groups)
    metrics = {**facts, "spans": asdict(config.spans), **figures}
    write_text(folder / METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / REPORT, report(metrics, predictions))
    return metrics
