"""The settings of a run, each with what it may be; `lavis.runners.recipes` reads them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import lavis.datasets
import lavis.models  # noqa: F401  # declares selectors and readers
from lavis.common.config import (
    MAX_WAIT_S,
    Count,
    Decay,
    Limit,
    NotNegative,
    NotNegativeInt,
    OneOf,
    Positive,
    Share,
    Text,
    between,
    one_of,
)
from lavis.common.registry import registry
from lavis.datasets.builder import SPLITS, DatasetConfig


def _is_device(name: str) -> bool:
    return re.fullmatch(r"cpu|cuda(:\d{1,2})?", name) is not None


Split = Annotated[str, one_of(*SPLITS)]


@dataclass(frozen=True)
class ModelConfig:
    """The `model` section; every key is explained in `configs/default.yaml`."""

    arch: str
    model_type: Text
    finetuned: Any
    task: str
    frame_num: Count
    selector: Annotated[str, OneOf(registry.selectors.names)] | None
    reader: Annotated[str, OneOf(registry.frame_readers.names)] | None
    training_selector: str | None
    dtype: Annotated[str, one_of("fp32", "bf16", "fp16")]
    checkpointing: str


@dataclass(frozen=True)
class RunConfig:
    """The `run` section; every key is explained in `configs/default.yaml`."""

    runner: Annotated[str, OneOf(registry.runners.names)]
    task: Annotated[str, one_of("videoqa", "moment_retrieval")]
    output_dir: Text
    recipe: str | None
    device: Annotated[str, Limit("cpu, cuda or cuda:N, or null for CUDA where there is one", _is_device)] | None
    seed: Annotated[int, between(0, 2**63 - 1)]
    resume: Annotated[str, one_of("never", "auto")]
    resume_changed: bool
    evaluate: bool
    iterations: Count
    max_epoch: Count
    max_iters: Count | None
    batch_size_train: Count
    batch_size_eval: Count
    accum_grad_iters: Count
    num_workers: NotNegativeInt
    init_lr: NotNegative
    min_lr: NotNegative
    warmup_lr: NotNegative | None
    warmup_steps: NotNegativeInt
    lr_sched: Annotated[str, one_of("linear_warmup_cosine_lr", "linear_warmup_step_lr")]
    lr_decay_rate: Annotated[float, Limit("above 0 and at most 1", lambda rate: 0 < rate <= 1)]
    weight_decay: NotNegative
    beta2: Decay
    clip_grad_norm: Annotated[float, Limit("above 0, or null for no clipping", lambda norm: norm > 0)] | None
    amp: bool
    amp_dtype: Annotated[str, one_of("bf16", "fp16")]
    ema_decay: Annotated[float, Limit("from 0 to below 1, or null for no average", lambda decay: 0 <= decay < 1)] | None
    frozen_verdicts: Annotated[str, one_of("fresh", "remembered")]
    frame_cache: Text | None
    frame_cache_gib: Positive
    distributed: Annotated[str, one_of("ddp", "fsdp")]
    distributed_timeout_s: Annotated[float, Limit("above 0 and at most 1e7", lambda wait: 0 < wait <= MAX_WAIT_S)]
    data_timeout_s: Annotated[float, between(0, MAX_WAIT_S)]
    published_quirks: bool
    mix: Any
    train_splits: tuple[Split, ...]
    valid_splits: tuple[Split, ...]
    test_splits: tuple[Split, ...]
    valid_freq: Count
    validate_first: bool | None
    best_metric: str | None
    save_freq: Count | None
    keep_last: Count
    log_freq: Count
    max_unreadable: Share


@dataclass(frozen=True)
class TrainConfig:
    """A whole run.

    Attributes:
        dataset_name: which benchmark, a name in `registry.builders`; of several, the first.
        datasets: all of them, by name.
        resolved: all sections as plain data, to be kept with the results.
        remarks: what whoever starts the run should know of its settings: published ones that were translated, and
            those that cannot do what they say.
    """

    model: ModelConfig
    run: RunConfig
    dataset_name: str
    dataset: DatasetConfig
    datasets: Mapping[str, DatasetConfig]
    resolved: Mapping[str, Any]
    remarks: tuple[str, ...] = ()
