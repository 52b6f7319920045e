"""What configures a run: settings with what each may be, recipes over defaults, and what cannot stand together."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from lavis.common.config import (
    MAX_WAIT_S,
    Count,
    Decay,
    NoEffect,
    NotNegative,
    NotNegativeInt,
    Positive,
    Share,
    Text,
    TrainingOnly,
    between,
    effect_of,
    from_mapping,
    import_plugins,
    limit,
    load_yaml,
    merged,
    one_of,
    parsed_options,
    registered,
    section_of,
)
from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.files import configs_dir, paper_tables_path
from lavis.common.published_settings import translated
from lavis.common.registry import registry
from lavis.datasets.builder import SPLITS, DatasetConfig, checked_mix, dataset_defaults
from lavis.datasets.videos import VideoFolders
from lavis.export.report import load_paper_tables
from lavis.models.base import LoRA
from lavis.models.language.checkpointing import CHECKPOINTING
from lavis.tasks.build import PublishedTask, resolve_task
from lavis.tasks.metrics.moments import SpanRule
from lavis.tasks.predictions import ACCURACY, FRAME_ACCURACY, FRAME_AP, metric_names


def _is_device(name: str) -> bool:
    return re.fullmatch(r"cpu|cuda(:\d{1,2})?", name) is not None


Split = Annotated[str, one_of(*SPLITS)]


@dataclass(frozen=True)
class ModelConfig:
    """The `model` section; every key is explained in `configs/default.yaml`.

    Weights, what the task comes to, and what the model is made of, are known by what they are: the settings that name
    them have no effect of their own on predictions.
    """

    arch: TrainingOnly[str]
    model_type: NoEffect[Text]
    finetuned: NoEffect[Any]
    task: TrainingOnly[str]
    frame_num: Count
    token_budget: Count | None
    selector: TrainingOnly[Any]
    reader: TrainingOnly[Annotated[str, registered(registry.frame_packings)] | None]
    training_selector: TrainingOnly[Any]
    dtype: Annotated[str, one_of("fp32", "bf16", "fp16")]
    checkpointing: NoEffect[Annotated[str, one_of(*CHECKPOINTING)]]
    lora: TrainingOnly[LoRA | None]
    frame_tokens: TrainingOnly[Count | None]


@dataclass(frozen=True)
class RunConfig:
    """The `run` section; every key is explained in `configs/default.yaml`."""

    runner: TrainingOnly[Annotated[str, registered(registry.runners)]]
    task: NoEffect[Annotated[str, one_of("videoqa", "moment_retrieval")]]
    output_dir: NoEffect[Text]
    imports: NoEffect[tuple[Text, ...]]
    recipe: NoEffect[str | None]
    device: NoEffect[
        Annotated[str, limit("cpu, cuda or cuda:N, or null for CUDA where there is one", _is_device)] | None
    ]
    seed: Annotated[int, between(0, 2**63 - 1)]
    resume: NoEffect[Annotated[str, one_of("never", "auto")]]
    resume_changed: NoEffect[bool]
    evaluate: NoEffect[bool]
    iterations: NoEffect[Count]
    max_epoch: TrainingOnly[Count]
    max_iters: TrainingOnly[Count | None]
    batch_size_train: NoEffect[Count]
    batch_size_eval: NoEffect[Count]
    accum_grad_iters: TrainingOnly[Count]
    num_workers: NoEffect[NotNegativeInt]
    init_lr: TrainingOnly[NotNegative]
    min_lr: TrainingOnly[NotNegative]
    warmup_lr: TrainingOnly[NotNegative | None]
    warmup_steps: TrainingOnly[NotNegativeInt]
    lr_sched: TrainingOnly[Annotated[str, one_of("linear_warmup_cosine_lr", "linear_warmup_step_lr")]]
    lr_decay_rate: TrainingOnly[Annotated[float, limit("above 0 and at most 1", lambda rate: 0 < rate <= 1)]]
    weight_decay: TrainingOnly[NotNegative]
    beta2: TrainingOnly[Decay]
    clip_grad_norm: TrainingOnly[
        Annotated[float, limit("above 0, or null for no clipping", lambda norm: norm > 0)] | None
    ]
    amp: TrainingOnly[bool]
    amp_dtype: TrainingOnly[Annotated[str, one_of("bf16", "fp16")]]
    ema_decay: TrainingOnly[
        Annotated[float, limit("from 0 to below 1, or null for no average", lambda decay: 0 <= decay < 1)] | None
    ]
    frozen_verdicts: TrainingOnly[Annotated[str, one_of("fresh", "remembered")]]
    frame_cache: NoEffect[Text | None]
    frame_cache_gib: NoEffect[Positive]
    distributed: NoEffect[Annotated[str, one_of("ddp", "fsdp")]]
    distributed_timeout_s: NoEffect[
        Annotated[float, limit("above 0 and at most 1e7", lambda wait: 0 < wait <= MAX_WAIT_S)]
    ]
    data_timeout_s: NoEffect[Annotated[float, between(0, MAX_WAIT_S)]]
    published_quirks: TrainingOnly[bool]
    mix: TrainingOnly[Any]
    train_splits: TrainingOnly[tuple[Split, ...]]
    valid_splits: TrainingOnly[tuple[Split, ...]]
    test_splits: NoEffect[tuple[Split, ...]]
    valid_freq: TrainingOnly[Count]
    validate_first: TrainingOnly[bool | None]
    best_metric: TrainingOnly[str | None]
    save_freq: NoEffect[Count | None]
    keep_last: NoEffect[Count]
    log_freq: NoEffect[Count]
    max_unreadable: NoEffect[Share]


@dataclass(frozen=True)
class TrainConfig:
    """A whole run.

    Attributes:
        dataset_name: which benchmark; of several, the first.
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


SECTIONS = ("model", "datasets", "run")


def load_train_config(
    path: str | Path | Mapping[str, Any], *, options: Sequence[str] = (), further_sections: Sequence[str] = ()
) -> TrainConfig:
    """Read a recipe over the defaults of the package.

    Args:
        path: a YAML file with the sections model, datasets and run, in our words or those of the published repository;
            or these sections themselves.
        options: dotted options such as "run.init_lr=1e-5", which win over everything.
        further_sections: sections that may be there too, with their defaults; they are left unread in `resolved`.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong type or an impossible value.
    """
    recipe, overrides = _content(path), parsed_options(options)
    path = "the recipe" if isinstance(path, Mapping) else path
    import_plugins(recipe, overrides)
    recipe, recipe_remarks = translated(recipe, place=str(path))
    overrides, option_remarks = translated(overrides, place="--options")
    known = (*SECTIONS, *further_sections)
    recipe, overrides = _sections(recipe, known, str(path)), _sections(overrides, known, "--options")
    names = _dataset_names(path, recipe, overrides)
    own = [layer.get("datasets") or {} for layer in (recipe, overrides)]
    base = {"datasets": {name: dataset_defaults(name, *(layer.get(name) for layer in own)) for name in names}}
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


def _content(recipe: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    return dict(recipe) if isinstance(recipe, Mapping) else load_yaml(recipe)


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
        if name not in names:
            raise ConfigError(f"--options: datasets.{name} is not in {path}; {did_you_mean(name, names)}")
    return names


def weight_paths(finetuned: Any) -> list[Path]:
    """Read `model.finetuned`: nothing, one path, or several.

    Raises:
        ConfigError: it is something else.
    """
    if finetuned is None:
        return []
    paths = [finetuned] if isinstance(finetuned, str) else finetuned
    if not isinstance(paths, Sequence) or not all(isinstance(path, str) for path in paths):
        raise ConfigError(f"model.finetuned is {finetuned!r}; give a folder or file of weights, or a list of them")
    return [Path(path) for path in paths]


def validation_metrics(task: PublishedTask) -> tuple[str, ...]:
    """Return the metrics that validation of a task measures, of which the first decides unless told otherwise."""
    own = (FRAME_AP, FRAME_ACCURACY) if task.objective == "localizer_pretraining" else (ACCURACY,)
    return *own, *metric_names()


def affected_by(key: str) -> str:
    """Return what depends on a setting, by its dotted key: "predictions", "training" alone, or "nothing"."""
    section, _, rest = key.partition(".")
    if section == "datasets":
        return effect_of(DatasetConfig, rest.partition(".")[2])
    return effect_of({"model": ModelConfig, "run": RunConfig}[section], rest)


def flattened(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        result.update(flattened(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value})
    return result


def check_settings(config: TrainConfig) -> tuple[str, ...]:
    """Refuse settings that contradict each other; return warnings of those without effect.

    Raises:
        ConfigError: see above.
    """
    run = config.run
    task = task_of(config)
    weight_paths(config.model.finetuned)
    checked_mix(run.mix, list(config.datasets))
    _check_mixable(config.datasets)
    _check_amounts(config)
    for name, dataset in config.datasets.items():
        VideoFolders.from_storage(dataset.build_info.videos.storage, place=f"datasets.{name}.build_info.videos.storage")
    known = validation_metrics(task)
    if run.best_metric is not None and run.best_metric not in known:
        raise ConfigError(
            f"run.best_metric: {run.best_metric!r} is not measured; {did_you_mean(run.best_metric, known)}"
        )
    if run.min_lr > run.init_lr:
        raise ConfigError(
            f"run.min_lr is {run.min_lr}, above run.init_lr, {run.init_lr}: the rate falls from init_lr to min_lr"
        )
    return tuple(_without_effect(config, task))


def task_of(config: TrainConfig) -> PublishedTask:
    """Return what `model.task` and its neighbours mean.

    Raises:
        ConfigError: one of them is unknown.
    """
    model = config.model
    return resolve_task(
        model.task,
        arch=model.arch,
        selector=model.selector,
        reader=model.reader,
        training_selector=model.training_selector,
    )


def out_of_reach(run: RunConfig, *, per_epoch: int) -> Iterator[str]:
    """Yield a warning for each setting that counts further than a run with so many iterations an epoch goes."""
    whole = run.max_epoch * per_epoch
    total = whole if run.max_iters is None else min(whole, run.max_iters)
    if run.warmup_steps >= total:
        yield (
            f"run.warmup_steps is {run.warmup_steps}, but the whole run has {total} iterations: "
            f"the rate never reaches run.init_lr, {run.init_lr:g}"
        )
    elif run.published_quirks and run.warmup_steps > per_epoch:
        yield (
            f"run.warmup_steps is {run.warmup_steps}, but the published warm-up ends with the first epoch, "
            f"after {per_epoch} iterations: the rate jumps there"
        )
    if run.accum_grad_iters > per_epoch:
        yield (
            f"run.accum_grad_iters is {run.accum_grad_iters}, but an epoch has {per_epoch} iterations: "
            "each optimizer step has no more than those"
        )
    if run.max_iters is not None and run.max_iters > whole:
        yield f"run.max_iters is {run.max_iters}, but run.max_epoch={run.max_epoch} ends the run after {whole}"


def _without_effect(config: TrainConfig, task: PublishedTask) -> Iterator[str]:
    run, count = config.run, config.model.frame_num
    frames = config.dataset.vis_processor.eval.n_frms
    if task.keyframes == "frame_num" and frames is not None and count > frames:
        yield (
            f"model.frame_num is {count}, but only {frames} frames are sampled "
            f"(datasets.{config.dataset_name}.vis_processor.eval.n_frms): all of them are read"
        )
    shown = config.dataset.vis_processor.train.n_frms
    if task.training_selector != "all" and shown is not None and count > shown:
        yield (
            f"model.frame_num is {count}, but only {shown} frames are sampled in training "
            f"(datasets.{config.dataset_name}.vis_processor.train.n_frms): all of them are learned from"
        )
    if run.warmup_steps and run.warmup_lr is not None and run.warmup_lr > run.init_lr:
        yield f"run.warmup_lr is {run.warmup_lr:g}, above run.init_lr, {run.init_lr:g}: warm-up lowers the rate"
    if run.recipe is not None and run.recipe not in (rows := load_paper_tables(paper_tables_path()).recipes):
        yield f"run.recipe names no row of the paper's tables: {run.recipe!r}; {did_you_mean(run.recipe, rows)}"
    if run.lr_decay_rate != 1 and run.lr_sched != "linear_warmup_step_lr":
        yield f"run.lr_decay_rate is {run.lr_decay_rate:g}, which only run.lr_sched=linear_warmup_step_lr looks at"


def _check_mixable(datasets: Mapping[str, DatasetConfig]) -> None:
    """Refuse datasets that cannot share a batch."""
    shared: dict[str, list[Any]] = {
        "prompt": [config.prompt for config in datasets.values()],
        "vis_processor.train.n_frms": [config.vis_processor.train.n_frms for config in datasets.values()],
        "vis_processor.eval.n_frms": [config.vis_processor.eval.n_frms for config in datasets.values()],
        "vis_processor.eval.sample_fps": [config.vis_processor.eval.sample_fps for config in datasets.values()],
    }
    for key, values in shared.items():
        if len(set(values)) > 1:
            differing = ", ".join(
                f"datasets.{name}.{key}={value}" for name, value in zip(datasets, values, strict=True)
            )
            raise ConfigError(f"datasets that are mixed must have the same {key}, not {differing}")


def _check_amounts(config: TrainConfig) -> None:
    """Refuse amounts of frames that cannot be."""
    for name, dataset in config.datasets.items():
        for stage, processor in (("train", dataset.vis_processor.train), ("eval", dataset.vis_processor.eval)):
            place = f"datasets.{name}.vis_processor.{stage}"
            if (processor.n_frms is None) == (processor.sample_fps is None):
                raise ConfigError(
                    f"{place} has n_frms {processor.n_frms} and sample_fps {processor.sample_fps}; give one of the "
                    "two, and null for the other"
                )
            if processor.sample_fps is None:
                continue
            if stage == "train":
                raise ConfigError(f"{place}.sample_fps: clips of a batch have equally many frames; set n_frms instead")
            if "sample_fps" not in inspect.signature(registry.processors.get(processor.name)).parameters:
                raise ConfigError(f"{place}.sample_fps: the processor {processor.name!r} does not take it; set n_frms")
            if config.run.distributed == "fsdp":
                raise ConfigError(
                    f"{place}.sample_fps gives clips different numbers of frames, and with run.distributed=fsdp all "
                    "processes must run the same; set n_frms, or run.distributed=ddp"
                )


MOMENTS, CHAIN = EVALUATION_SECTIONS = "moments", "chain"


@dataclass(frozen=True)
class ChainConfig:
    """The `chain` section: models for one role alone, in place of the one that `model` names."""

    scorer: Any
    answerer: Any


@dataclass(frozen=True)
class EvaluationConfig:
    """A whole evaluation.

    Attributes:
        base: the sections that training has too.
        spans: the `moments` section.
        chain: the section of that name.
        split: the one split that is evaluated (`run.test_splits`).
    """

    base: TrainConfig
    spans: SpanRule
    chain: ChainConfig
    split: str


def load_evaluation_config(
    path: str | Path | Mapping[str, Any], *, options: Sequence[str] = (), further_sections: Sequence[str] = ()
) -> EvaluationConfig:
    """Read a recipe over the defaults of the package; see `load_train_config`.

    Unlike training, evaluation resumes what is in its folder unless `run.resume` says otherwise.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong type or an impossible value.
    """
    says_resume = "resume" in section_of(_content(path), "run", place=str(path))
    given = [*([] if says_resume else ["run.resume=auto"]), *options]
    sections = (*EVALUATION_SECTIONS, *further_sections)
    return evaluation_of(load_train_config(path, options=given, further_sections=sections))


def evaluation_of(base: TrainConfig) -> EvaluationConfig:
    """Return the evaluation that a configuration describes, read with `EVALUATION_SECTIONS`.

    Raises:
        ConfigError: it is not about one split of one dataset, or its `moments` section cannot be.
    """
    if len(base.datasets) != 1:
        raise ConfigError(f"datasets names {', '.join(base.datasets)}; evaluate them one at a time")
    spans = from_mapping(SpanRule, base.resolved[MOMENTS] or {}, place=MOMENTS)
    if len(base.run.test_splits) != 1:
        raise ConfigError(f"run.test_splits names {len(base.run.test_splits)} splits; name one, such as [val]")
    chain = from_mapping(ChainConfig, base.resolved[CHAIN] or {}, place=CHAIN)
    return EvaluationConfig(base, spans, chain, base.run.test_splits[0])
