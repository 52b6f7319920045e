"""Settings that are each possible and cannot do together, or in a run as short as this one, what they say.

What a single setting may be stands beside it, in `lavis.runners.config`. Nothing here waits until a setting is used:
what cannot be is refused when a configuration is read, and what is possible but without effect is said then.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.paths import paper_tables_path
from lavis.datasets.builder import DatasetConfig
from lavis.datasets.mixture import checked_mix
from lavis.datasets.videos import VideoFolders
from lavis.models.language.checkpointing import check_checkpointing
from lavis.runners.config import RunConfig, TrainConfig
from lavis.runners.report_tables import load_paper_tables
from lavis.runners.validation import figures_of
from lavis.runners.weights import weight_paths
from lavis.tasks.build import resolve_task
from lavis.tasks.published import PublishedTask


def check_settings(config: TrainConfig) -> tuple[str, ...]:
    """Refuse settings that contradict each other; return warnings of those without effect.

    Raises:
        ConfigError: see above.
        MissingExtraError: `model.checkpointing` needs a package that is not installed.
    """
    run = config.run
    task = task_of(config)
    check_checkpointing(config.model.checkpointing)
    weight_paths(config.model.finetuned)
    checked_mix(run.mix, list(config.datasets))
    _check_mixable(config.datasets)
    for name, dataset in config.datasets.items():
        VideoFolders.from_storage(dataset.build_info.videos.storage, place=f"datasets.{name}.build_info.videos.storage")
    known = figures_of(task)
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
    """Yield a warning for each setting that counts further than the run goes.

    Args:
        per_epoch: iterations of an epoch.
    """
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
    if task.keyframes == "frame_num" and count > frames:
        yield (
            f"model.frame_num is {count}, but only {frames} frames are sampled "
            f"(datasets.{config.dataset_name}.vis_processor.eval.n_frms): all of them are read"
        )
    shown = config.dataset.vis_processor.train.n_frms
    if task.training_selector != "all" and count > shown:
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
    }
    for key, values in shared.items():
        if len(set(values)) > 1:
            differing = ", ".join(
                f"datasets.{name}.{key}={value}" for name, value in zip(datasets, values, strict=True)
            )
            raise ConfigError(f"datasets that are mixed must have the same {key}, not {differing}")
