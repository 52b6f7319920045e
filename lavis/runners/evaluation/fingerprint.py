"""What predictions depend on: two evaluations with the same fingerprint say the same about every question."""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lavis import __version__
from lavis.common.errors import AnnotationError, ConfigError
from lavis.common.registry import registry
from lavis.models.sevila.identity import make_digest, weights_digest
from lavis.models.sevila.model import SeViLA
from lavis.runners.config import TrainConfig
from lavis.runners.evaluation.config import EvaluationConfig
from lavis.runners.evaluation.scoring import Scorer
from lavis.runners.parts import described, flattened, source_digest
from lavis.tasks.published import PublishedTask

Fingerprint = dict[str, Any]

_PACKAGES = ("torch", "transformers", "tokenizers", "av", "numpy", "pillow")
# The packages whose code makes predictions; what scores them and reports may change.
_CODE = ("lavis.video", "lavis.processors", "lavis.datasets", "lavis.models", "lavis.tasks.evaluation.predictions")
# Settings that predictions do not depend on; every other one is part of the fingerprint, also those yet to come.
WITHOUT_EFFECT = frozenset(
    {
        # What is asked for under another name: the weights, and what the task comes to, are part of it themselves.
        *("model.arch", "model.model_type", "model.finetuned", "model.task", "model.selector", "model.reader"),
        # Where results go, and how fast they come.
        *("run.output_dir", "run.recipe", "run.resume", "run.resume_changed", "run.batch_size_eval"),
        *(
            "run.num_workers",
            "run.runner",
            "run.data_timeout_s",
            "run.distributed_timeout_s",
            "run.device",
            "run.task",
            "run.test_splits",
        ),
        # Training.
        *("model.training_selector", "model.checkpointing", "run.evaluate", "run.iterations", "run.max_epoch"),
        *("run.max_iters", "run.batch_size_train", "run.accum_grad_iters", "run.init_lr", "run.min_lr"),
        *("run.warmup_lr", "run.warmup_steps", "run.lr_sched", "run.lr_decay_rate", "run.weight_decay", "run.beta2"),
        *("run.clip_grad_norm", "run.amp", "run.amp_dtype", "run.ema_decay", "run.frozen_verdicts"),
        *("run.frame_cache", "run.frame_cache_gib", "run.distributed", "run.published_quirks", "run.mix"),
        *("run.train_splits", "run.valid_splits", "run.valid_freq", "run.validate_first", "run.best_metric"),
        *("run.save_freq", "run.keep_last", "run.log_freq", "run.max_unreadable"),
    }
)
# Of a dataset: the annotations and each video are known by their content.
_WITHOUT_EFFECT_OF_DATASETS = ("build_info.annotations", "build_info.videos.storage", "vis_processor.train")


def fingerprint_of(
    config: EvaluationConfig,
    model: SeViLA,
    task: PublishedTask,
    scorer: Scorer,
    *,
    quantize: str | None = None,
    compiled: bool = False,
) -> Fingerprint:
    """Return everything that predictions depend on beside the videos, as flat JSON values.

    The number of processes and the batch size are not among it: nothing depends on them.

    Args:
        scorer: what asks the questions: its parts and their settings.
        quantize, compiled: what is done to the model once it is loaded.

    Raises:
        AnnotationError: the annotation file cannot be read.
    """
    base, name = config.base, config.base.dataset_name
    dataset = base.dataset
    parts = {
        "processor": registry.processors.get(dataset.vis_processor.eval.name),
        "video reader": registry.video_readers.get(dataset.build_info.videos.reader),
    }
    asks = flattened({"scorer": described(scorer)})
    facts = {
        "version": __version__,
        "weights": weights_digest(model),
        "model": make_digest(model),
        "quantize": quantize,
        "compile": compiled,
        "device": model.device.type,
        **{f"model.task: {key}": getattr(task, key) for key in ("selector", "reader", "keyframes")},
        **_settings(base),
        "datasets": name,
        "split": config.split,
        digest_key(name): file_digest(annotation_file(config)),
        **flattened({key: described(part) for key, part in parts.items()}),
        **{key: value for key, value in asks.items() if not key.startswith("scorer._task.")},
        "code": source_digest(*_CODE),
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    # As it will be read again: a tuple is a list in a file.
    fingerprint: Fingerprint = json.loads(json.dumps(facts))
    return fingerprint


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that predictions depend on, by dotted key; moments are made of predictions later."""
    datasets = {name: asdict(dataset) for name, dataset in config.datasets.items()}
    settings = flattened({"model": asdict(config.model), "run": asdict(config.run), "datasets": datasets})
    result = {}
    for key, value in settings.items():
        of_dataset = key.split(".", 2)[2] if key.startswith("datasets.") else ""
        if key not in WITHOUT_EFFECT and not of_dataset.startswith(_WITHOUT_EFFECT_OF_DATASETS):
            result[key] = value
    return result


def digest_key(dataset: str) -> str:
    """Return where a fingerprint keeps the digest of the annotation file."""
    return f"datasets.{dataset}.build_info.annotations"


def annotation_file(config: EvaluationConfig) -> Path:
    """Return the annotation file of the split.

    Raises:
        ConfigError: the configuration names none.
    """
    file = getattr(config.base.dataset.build_info.annotations, config.split, None)
    if file is None:
        place = f"datasets.{config.base.dataset_name}.build_info.annotations.{config.split}.storage"
        raise ConfigError(f"there is no annotation file for the split {config.split!r}; set {place}")
    return Path(file.storage)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of an annotation file.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise AnnotationError(f"cannot read {file}: {error.strerror}") from error


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what differs first between two fingerprints, for a message; None if nothing does."""
    for name in {**earlier, **now}:
        before, after = earlier.get(name), now.get(name)
        if before != after:
            is_digest = isinstance(before, str) and isinstance(after, str) and len(before) == len(after) == 64
            return f"other {name}" if is_digest else f"{name} {before!r}, now {after!r}"
    return None
