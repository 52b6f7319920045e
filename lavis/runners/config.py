"""What a run is configured by: `configs/default.yaml`, a recipe over it, and dotted options over both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lavis.datasets  # noqa: F401  # declares the dataset builders
from lavis.common.config import from_mapping, load_yaml, merged
from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.paths import configs_dir
from lavis.common.registry import registry
from lavis.datasets.builder import DatasetConfig
from lavis.datasets.mixture import checked_mix

SECTIONS = ("model", "datasets", "run")


@dataclass(frozen=True)
class ModelConfig:
    """The `model` section; every key is explained in `configs/default.yaml`."""

    arch: str
    model_type: str
    finetuned: Any
    task: str
    frame_num: int
    selector: str | None
    reader: str | None
    training_selector: str | None
    dtype: str
    checkpointing: str


@dataclass(frozen=True)
class RunConfig:
    """The `run` section; every key is explained in `configs/default.yaml`."""

    runner: str
    task: str
    output_dir: str
    recipe: str | None
    device: str | None
    seed: int
    resume: str
    evaluate: bool
    iterations: int
    max_epoch: int
    max_iters: int | None
    batch_size_train: int
    batch_size_eval: int
    accum_grad_iters: int
    num_workers: int
    init_lr: float
    min_lr: float
    warmup_lr: float
    warmup_steps: int
    lr_sched: str
    lr_decay_rate: float
    weight_decay: float
    beta2: float
    clip_grad_norm: float | None
    amp: bool
    amp_dtype: str
    ema_decay: float | None
    frozen_verdicts: str
    frame_cache: str | None
    frame_cache_gib: float
    distributed: str
    distributed_timeout_s: float
    data_timeout_s: float
    published_quirks: bool
    mix: Any
    train_splits: tuple[str, ...]
    valid_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    valid_freq: int
    validate_first: bool | None
    best_metric: str | None
    save_freq: int | None
    keep_last: int
    log_freq: int
    max_unreadable: float


@dataclass(frozen=True)
class TrainConfig:
    """A whole run.

    Attributes:
        dataset_name: which benchmark, a name in `registry.builders`; of several, the first.
        datasets: all of them, by name.
        resolved: all sections as plain data, to be kept with the results.
    """

    model: ModelConfig
    run: RunConfig
    dataset_name: str
    dataset: DatasetConfig
    datasets: Mapping[str, DatasetConfig]
    resolved: Mapping[str, Any]


def load_train_config(
    path: str | Path, *, options: Sequence[str] = (), further_sections: Sequence[str] = ()
) -> TrainConfig:
    """Read a recipe over the defaults of the package.

    Args:
        path: a YAML file with the sections model, datasets and run.
        options: dotted options such as "run.init_lr=1e-5", which win over everything.
        further_sections: sections that may be there too, with their defaults; they are left unread in `resolved`.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong type or an impossible value.
    """
    recipe = load_yaml(path)
    known = (*SECTIONS, *further_sections)
    for section in recipe:
        if section not in known:
            raise ConfigError(f"{path}: unknown section {section!r}; {did_you_mean(str(section), known)}")
    names = _dataset_names(path, recipe, options)
    base = {"datasets": {name: load_yaml(configs_dir() / "datasets" / f"{name}.yaml") for name in names}}
    defaults = load_yaml(configs_dir() / "default.yaml")
    resolved = merged([{name: defaults[name] for name in known if name in defaults}, base, recipe], options=options)
    for section in resolved:
        if section not in known:
            raise ConfigError(f"--options: unknown section {section!r}; {did_you_mean(str(section), known)}")
    datasets = {
        name: from_mapping(DatasetConfig, resolved["datasets"][name], place=f"datasets.{name}") for name in names
    }
    config = TrainConfig(
        model=from_mapping(ModelConfig, resolved["model"], place="model"),
        run=from_mapping(RunConfig, resolved["run"], place="run"),
        dataset_name=names[0],
        dataset=datasets[names[0]],
        datasets=datasets,
        resolved=resolved,
    )
    _check(config.run)
    checked_mix(config.run.mix, names)
    _check_mixable(datasets)
    return config


def _dataset_names(path: str | Path, recipe: Mapping[str, Any], options: Sequence[str]) -> list[str]:
    """Return the datasets of a recipe; options change them, and add none."""
    asked = merged([recipe], options=options).get("datasets") or {}
    if not isinstance(asked, Mapping) or not asked:
        raise ConfigError(f"{path}: datasets must name one or more of: {', '.join(registry.builders.names())}")
    in_recipe = [str(name) for name in recipe.get("datasets") or asked]
    for name in map(str, asked):
        registry.builders.get(name)
        if name not in in_recipe:
            raise ConfigError(f"--options: datasets.{name} is not in {path}; {did_you_mean(name, in_recipe)}")
    return in_recipe


def _check_mixable(datasets: Mapping[str, DatasetConfig]) -> None:
    """Refuse datasets that cannot share a batch."""
    shared: dict[str, list[Any]] = {
        "prompt": [config.prompt for config in datasets.values()],
        "vis_processor.train.n_frms": [config.vis_processor.train.n_frms for config in datasets.values()],
        "vis_processor.eval.n_frms": [config.vis_processor.eval.n_frms for config in datasets.values()],
    }
    for key, values in shared.items():
        if len(set(values)) > 1:
            differing = ", ".join(
                f"datasets.{name}.{key}={value}" for name, value in zip(datasets, values, strict=True)
            )
            raise ConfigError(f"datasets that are mixed must have the same {key}, not {differing}")


_CHOICES = {
    "lr_sched": ("linear_warmup_cosine_lr", "linear_warmup_step_lr"),
    "distributed": ("ddp", "fsdp"),
    "resume": ("never", "auto"),
    "amp_dtype": ("bf16", "fp16"),
    "frozen_verdicts": ("fresh", "remembered"),
}
_AT_LEAST_ONE = (
    *("max_epoch", "batch_size_train", "batch_size_eval", "accum_grad_iters", "valid_freq", "keep_last", "log_freq"),
    *("max_iters", "save_freq", "iterations"),
)
_NOT_NEGATIVE = (
    *("num_workers", "warmup_steps", "init_lr", "min_lr", "warmup_lr", "weight_decay", "max_unreadable"),
    "data_timeout_s",
)


def _check(run: RunConfig) -> None:
    for key, allowed in _CHOICES.items():
        value = getattr(run, key)
        if value not in allowed:
            raise ConfigError(f"run.{key}: unknown {value!r}; {did_you_mean(value, allowed)}")
    for key in _AT_LEAST_ONE:
        value = getattr(run, key)
        if value is not None and value < 1:
            raise ConfigError(f"run.{key} is {value}; it must be 1 or more")
    for key in _NOT_NEGATIVE:
        if not getattr(run, key) >= 0:
            raise ConfigError(f"run.{key} is {getattr(run, key)}; it must be 0 or more")
    if not run.distributed_timeout_s > 0:
        raise ConfigError(f"run.distributed_timeout_s is {run.distributed_timeout_s}; it must be above 0")
    if run.clip_grad_norm is not None and not run.clip_grad_norm > 0:
        raise ConfigError(f"run.clip_grad_norm is {run.clip_grad_norm}; it must be above 0, or null for no clipping")
    if not run.frame_cache_gib > 0:
        raise ConfigError(f"run.frame_cache_gib is {run.frame_cache_gib}; it must be above 0")
    if run.ema_decay is not None and not 0 <= run.ema_decay < 1:
        raise ConfigError(f"run.ema_decay is {run.ema_decay}; it must be from 0 to below 1, or null for no average")
