"""What a run is configured by: `configs/default.yaml`, a recipe over it, and dotted options over both."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import lavis.datasets
import lavis.models  # noqa: F401  # declares selectors and readers
from lavis.common.config import from_mapping, load_yaml, merged, parsed_options, section_of
from lavis.common.errors import ConfigError
from lavis.common.limits import (
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
from lavis.common.naming import did_you_mean
from lavis.common.paths import configs_dir
from lavis.common.published_settings import translated
from lavis.common.registry import registry
from lavis.datasets.builder import SPLITS, DatasetConfig
from lavis.runners.checks import check_settings

SECTIONS = ("model", "datasets", "run")


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


def load_train_config(
    path: str | Path, *, options: Sequence[str] = (), further_sections: Sequence[str] = ()
) -> TrainConfig:
    """Read a recipe over the defaults of the package.

    Args:
        path: a YAML file with the sections model, datasets and run, in our words or those of the published repository.
        options: dotted options such as "run.init_lr=1e-5", which win over everything.
        further_sections: sections that may be there too, with their defaults; they are left unread in `resolved`.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong type or an impossible value.
    """
    recipe, recipe_remarks = translated(load_yaml(path), place=str(path))
    overrides, option_remarks = translated(parsed_options(options), place="--options")
    known = (*SECTIONS, *further_sections)
    recipe, overrides = _sections(recipe, known, str(path)), _sections(overrides, known, "--options")
    names = _dataset_names(path, recipe, overrides)
    base = {"datasets": {name: load_yaml(configs_dir() / "datasets" / f"{name}.yaml") for name in names}}
    defaults = load_yaml(configs_dir() / "default.yaml")
    resolved = merged([{name: defaults[name] for name in known if name in defaults}, base, recipe, overrides])
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
    warnings = check_settings(config)
    return replace(config, remarks=(*recipe_remarks, *option_remarks, *warnings))


def _sections(settings: Mapping[str, Any], known: Sequence[str], place: str) -> dict[str, Any]:
    for section in settings:
        if section not in known:
            raise ConfigError(f"{place}: unknown section {section!r}; {did_you_mean(str(section), known)}")
    return {section: section_of(settings, section, place=place) for section in settings}


def _dataset_names(path: str | Path, recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[str]:
    """Return the datasets of a recipe; options change them, and add none."""
    in_recipe, asked = list(recipe.get("datasets", ())), list(overrides.get("datasets", ()))
    if not in_recipe and not asked:
        raise ConfigError(f"{path}: datasets must name one or more of: {', '.join(registry.builders.names())}")
    names = in_recipe or asked
    for name in (*in_recipe, *asked):
        registry.builders.get(name)
        if name not in names:
            raise ConfigError(f"--options: datasets.{name} is not in {path}; {did_you_mean(name, names)}")
    return names
