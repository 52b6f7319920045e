"""What predictions depend on: two evaluations with the same fingerprint say the same about every question."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lavis import __version__
from lavis.common.errors import AnnotationError, ConfigError
from lavis.models.sevila.model import SeViLA
from lavis.runners.evaluation.config import EvaluationConfig
from lavis.tasks.published import PublishedTask

_WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Fingerprint = dict[str, Any]


def fingerprint_of(config: EvaluationConfig, model: SeViLA, task: PublishedTask) -> Fingerprint:
    """Return everything that predictions depend on, as flat JSON values; the number of processes is not among it.

    Raises:
        AnnotationError: the annotation file cannot be read.
    """
    base, dataset = config.base, config.base.dataset
    place = f"datasets.{base.dataset_name}"
    facts = {
        "version": __version__,
        "weights": weights_digest(model),
        "model": hashlib.sha256(model.config.as_json().encode()).hexdigest(),
        "model.dtype": base.model.dtype,
        "model.frame_num": base.model.frame_num,
        **{f"model.task: {name}": getattr(task, name) for name in ("selector", "reader", "keyframes")},
        "run.seed": base.run.seed,
        "datasets": base.dataset_name,
        "split": config.split,
        f"{place}.prompt": dataset.prompt,
        digest_key(base.dataset_name): file_digest(annotation_file(config)),
        **{f"{place}.build_info.videos.{k}": v for k, v in dataclasses.asdict(dataset.build_info.videos).items()},
        **{f"{place}.vis_processor.eval.{k}": v for k, v in dataclasses.asdict(dataset.vis_processor.eval).items()},
    }
    # As it will be read again: a tuple is a list in a file.
    fingerprint: Fingerprint = json.loads(json.dumps(facts))
    return fingerprint


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


@torch.no_grad()
def weights_digest(model: SeViLA) -> str:
    """Return a digest of all weights as they are computed with, wherever they were loaded from.

    The bits of each parameter are added up as whole numbers: exact in any order, on any device, and quick where hashing
    gigabytes is not.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        bits = parameter.detach().contiguous().view(_WHOLE_NUMBERS[parameter.element_size()])
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)} {int(bits.sum(dtype=torch.int64))}".encode())
    return digest.hexdigest()


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what differs first between two fingerprints, for a message; None if nothing does."""
    for name in {**earlier, **now}:
        before, after = earlier.get(name), now.get(name)
        if before != after:
            is_digest = isinstance(before, str) and isinstance(after, str) and len(before) == len(after) == 64
            return f"other {name}" if is_digest else f"{name} {before!r}, now {after!r}"
    return None
