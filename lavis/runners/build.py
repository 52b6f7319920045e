"""From a configuration to a run that is ready to start, and from recipes to stages; configuration objects end here."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lavis.common import defaults
from lavis.common.config import merged
from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.datasets.builder import DatasetBuilder, MixedBuilder, builder_of, checked_mix
from lavis.datasets.dataset import EpochBatches, QuestionDataset, build_loader
from lavis.models.base import TrainableModel
from lavis.models.fingerprint import weights_digest
from lavis.models.frame_cache import FrameCache
from lavis.models.language.checkpointing import check_checkpointing
from lavis.models.loading import load_model
from lavis.models.mixed import load_chain
from lavis.models.precision import at_least_fp32
from lavis.runners.checkpoint import (
    BEST_FOLDER,
    CheckpointSaver,
    CheckpointStore,
    RunShape,
    find_checkpoint,
    load_partial,
)
from lavis.runners.config import (
    ChainConfig,
    RunConfig,
    TrainConfig,
    out_of_reach,
    task_of,
    validation_metrics,
    weight_paths,
)
from lavis.runners.faults import shared_failure
from lavis.runners.optim import MovingAverage, Parallel, build_adamw, build_schedule
from lavis.runners.progress import TrainingLog
from lavis.runners.provenance import (
    CHECKPOINTS,
    Inputs,
    check_output,
    check_unchanged,
    inputs_of,
    record,
    video_samples,
)
from lavis.runners.trainer import Plan, Runner, Updater
from lavis.runners.validation import SplitValidator
from lavis.tasks.build import PublishedTask, build_objective, require_objective, trained_by_published_code
from lavis.tasks.objectives import CachedTeacher, ClipMemory, Objective, OnlineTeacher, Teacher
from lavis.tasks.predictions import ClipLoader

logger = logging.getLogger(__name__)

_GIB = 2**30
# Pictures of the videos' own aspects are trained on in up to so many times the side that a model sees of squares: what
# it makes smaller itself need not wait in memory, and wide ones lose nothing.
_SIDES = 2
_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingParts:
    """What a run is built around: a model, what it learns, and from what."""

    model: TrainableModel
    task: PublishedTask
    objective: Objective
    teacher: Teacher
    builder: DatasetBuilder | MixedBuilder


def build_parts(config: TrainConfig, world: World) -> TrainingParts:
    """Load the model and set up what trains.

    Raises:
        UserError: something that the configuration names is unknown, missing or damaged.
    """
    task = task_of(config)
    require_objective(task)
    check_checkpointing(config.model.checkpointing)
    model = load_for(config, world)
    model.checkpoint_activations(method=config.model.checkpointing)
    # Before anything trains: both look at the weights.
    teacher, memory = build_teacher(config, model, world), build_memory(config, model, world)
    prompt, count = config.dataset.prompt, config.model.frame_num
    objective = build_objective(task, prompt=prompt, num_keyframes=count, teacher=teacher, memory=memory)
    model.set_trainable(objective.trainable)
    if config.run.published_quirks:
        unfreeze_as_published(model, task)
    if hasattr(objective, "attach"):
        objective.attach(model)
    for _, parameter in model.trainable_parameters():
        parameter.data = parameter.data.to(at_least_fp32(parameter.dtype))
    return TrainingParts(model, task, objective, teacher, build_builder(config, model))


def load_for(config: TrainConfig, world: World, *, chain: ChainConfig | None = None) -> TrainableModel:
    """Load the model that `model.model_type` names, or `chain` for single roles, with `model.finetuned` over it."""
    # Parts of a model may be drawn at random, alike in all processes.
    torch.manual_seed(config.run.seed)
    # The published "blip2_fmr" is a SeViLA with another task.
    arch = config.model.arch if config.model.arch in registry.models else defaults.ARCH
    lora = config.model.lora
    options: dict[str, Any] = {
        "name": arch,
        "device": str(world.device),
        "dtype": config.model.dtype,
        "lora": None if lora is None else lora.as_mapping(),
        "frame_tokens": config.model.frame_tokens,
    }
    roles = {} if chain is None else {"localizer": chain.scorer, "answerer": chain.answerer}
    model: TrainableModel = (
        load_chain(config.model.model_type, **roles, **options)
        if any(source is not None for source in roles.values())
        else load_model(model_type=config.model.model_type, **options)
    )
    if world.rank:
        torch.manual_seed(config.run.seed + world.rank)  # and dropout, which differs
    for path in weight_paths(config.model.finetuned):
        names = ", ".join(load_partial(model, path))
        logger.info("weights of %s from %s", names or "nothing but a selector, which is not the model's,", path)
    return model


def build_builder(config: TrainConfig, model: TrainableModel) -> DatasetBuilder | MixedBuilder:
    """Return the builder of the configured datasets, for frames as the model takes them."""
    takes_prepared = any((one.before or one).takes_prepared for one in model.encoders)
    sides = (
        {"image_size": model.image_size}
        if takes_prepared
        else {"image_size": None, "max_side": _SIDES * model.image_size}
    )
    builders: dict[str, DatasetBuilder] = {
        name: builder_of(name, dataset)(
            name,
            dataset,
            **sides,
            mean=model.config.image_mean,
            std=model.config.image_std,
            seed=config.run.seed,
        )
        for name, dataset in config.datasets.items()
    }
    if len(builders) == 1:
        return builders[config.dataset_name]
    return MixedBuilder(builders, mix=checked_mix(config.run.mix, list(builders)), seed=config.run.seed)


def unfreeze_as_published(model: TrainableModel, task: PublishedTask) -> None:
    """Let those parts train too that the published code means to freeze and does not.

    Raises:
        ConfigError: there is no published code of this model.
    """
    names = model.published_names()
    if not names:
        raise ConfigError(
            f"run.published_quirks repeats what published code does, and there is none of the model "
            f"{model.config.name}; set it to false"
        )
    trained = trained_by_published_code(task, list(names.values()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(names.get(name) in trained)


def set_training(model: TrainableModel) -> None:
    """Put what trains into training mode; frozen parts stay in eval."""
    model.train()


def set_training_as_published(model: TrainableModel) -> None:
    """Put everything into training mode: dropout is on in frozen parts too."""
    model.train()
    for part in model.parts().values():
        part.train()


def build_validator(
    config: TrainConfig, parts: TrainingParts, *, splits: Iterable[str], world: World, at_most: int | None = None
) -> SplitValidator:
    """Build what measures the model on the given splits, or on so many questions of each process."""
    size, frames = parts.model.image_size, config.dataset.vis_processor.eval.n_frms
    # Where the model is split over the processes, all of them must compute equally often.
    in_step = config.run.distributed == "fsdp" and world.size > 1
    return SplitValidator(
        {
            split: build_clips(config.run, parts.builder.build_evaluation(split), world, is_rate=frames is None)
            for split in splits
        },
        task=parts.task,
        prompt=config.dataset.prompt,
        frame_num=config.model.frame_num,
        token_budget=config.model.token_budget,
        world=world,
        at_most=at_most,
        stand_in=torch.zeros(frames, 3, size, size) if in_step and frames is not None else None,
    )


def build_clips(run: RunConfig, dataset: QuestionDataset, world: World, *, is_rate: bool = False) -> ClipLoader:
    """Build what reads the clips of a split that is measured; with a rate of frames, they have different numbers."""
    return ClipLoader(
        dataset,
        batch_size=1 if is_rate else run.batch_size_eval,
        num_workers=run.num_workers,
        timeout_s=run.data_timeout_s,
        pin_memory=world.device.type == "cuda",
    )


def build_updater(run: RunConfig, parts: TrainingParts, *, world: World) -> Updater:
    """Lay the model out over the processes, and build what turns batches into changed weights."""
    # Parts that the published code leaves trainable by mistake get no gradient.
    quirks = run.published_quirks
    parallel = Parallel(parts.model, world, mode=run.distributed, find_unused_parameters=quirks)
    trained = list(parts.model.trainable_parameters())
    return Updater(
        parallel,
        parts.objective,
        build_adamw(trained, lr=run.init_lr, weight_decay=run.weight_decay, betas=(0.9, run.beta2)),
        world=world,
        divide=not quirks,
        clip_grad_norm=run.clip_grad_norm,
        autocast_dtype=_AMP_DTYPES[run.amp_dtype] if run.amp else None,
        average=MovingAverage(trained, decay=run.ema_decay) if run.ema_decay else None,
    )


def build_batches(
    run: RunConfig, *, num_samples: int, world: World, samples_per_step: int | None = None
) -> EpochBatches:
    """Say which samples this process reads, in which order; an earlier start may have decided `samples_per_step`."""
    return EpochBatches(
        num_samples,
        batch_size=run.batch_size_train,
        rank=world.rank,
        world_size=world.size,
        seed=run.seed,
        samples_per_step=samples_per_step,
    )


def build_runner(config: TrainConfig, world: World) -> Runner:
    """Build a whole run, and continue an earlier one where `run.resume` is "auto".

    Raises:
        UserError: something that the configuration names is unknown, missing or damaged, or the output
            folder holds an earlier run.
    """
    run, folder = config.run, Path(config.run.output_dir)
    if run.evaluate:
        raise ConfigError("run.evaluate is true, so nothing is trained; evaluate, or set it to false")
    check_output(folder, resume=run.resume)
    parts = build_parts(config, world)
    dataset = join_training_splits(parts.builder, run.train_splits)
    store = CheckpointStore(folder / CHECKPOINTS, keep_last=run.keep_last)
    found = find_checkpoint(store, run, num_samples=len(dataset), world=world)
    inputs: Inputs | None = None
    with shared_failure(world):
        if world.is_main:
            inputs = inputs_of(config, parts.model, splits=used_splits(run))
            if found is not None:
                check_unchanged(config, folder, inputs)
    kept = found.shape.samples_per_step if found else None
    batches = build_batches(run, num_samples=len(dataset), world=world, samples_per_step=kept)
    updater = build_updater(run, parts, world=world)
    plan = build_plan(run, parts.task, batches, world)
    if world.is_main:
        record(config, folder, world, inputs=inputs)
    total = plan.iterations(len(batches))
    runner: Runner = registry.runners.get(run.runner)(
        parts.model,
        updater=updater,
        schedule=build_schedule(run, steps_per_epoch=len(batches)),
        batches=batches,
        loader=build_loader(
            dataset,
            batches,
            num_workers=run.num_workers,
            pin_memory=world.device.type == "cuda",
            timeout_s=run.data_timeout_s,
        ),
        batch_size=run.batch_size_train,
        plan=plan,
        validator=build_validator(config, parts, splits={*run.valid_splits, *run.test_splits}, world=world),
        folder=folder,
        saver=CheckpointSaver(
            store, world=world, in_background=updater.parallel.in_step, timeout_s=run.distributed_timeout_s
        ),
        teacher=parts.teacher,
        shape=RunShape(run.seed, len(dataset), batches.samples_per_step, world.size),
        log=TrainingLog(folder if world.is_main else None, total=total, log_freq=run.log_freq),
        world=world,
        set_training=set_training_as_published if run.published_quirks else set_training,
    )
    if found is not None:
        runner.resume(found)
    return runner


def used_splits(run: RunConfig) -> set[str]:
    """Return the splits that a run reads."""
    return {*run.train_splits, *run.valid_splits, *run.test_splits}


def build_plan(run: RunConfig, task: PublishedTask, batches: EpochBatches, world: World) -> Plan:
    """Say how long the run is, and warn of settings that count further."""
    if world.is_main:
        for warning in out_of_reach(run, per_epoch=len(batches)):
            logger.warning(warning)
    validate_first = task.objective == "self_refinement" if run.validate_first is None else run.validate_first
    return Plan(
        max_epoch=run.max_epoch,
        max_iters=run.max_iters,
        accum_grad_iters=run.accum_grad_iters,
        carry_gradients=run.published_quirks,
        valid_freq=run.valid_freq,
        validate_first=validate_first and bool(run.valid_splits),
        save_freq=run.save_freq,
        max_unreadable=run.max_unreadable,
        valid_splits=run.valid_splits,
        best_metric=run.best_metric or validation_metrics(task)[0],
        test_splits=run.test_splits,
    )


def join_training_splits(builder: DatasetBuilder | MixedBuilder, splits: tuple[str, ...]) -> QuestionDataset:
    """Build the training split.

    Raises:
        ConfigError: not exactly one split is named.
    """
    if len(splits) != 1:
        raise ConfigError(f"run.train_splits names {len(splits)} splits; name one, such as [train]")
    return builder.build_training(splits[0])


def build_teacher(config: TrainConfig, model: TrainableModel, world: World) -> Teacher:
    """Build what is asked in place of the frozen role, by every process.

    Raises:
        ConfigError: its predictions cannot be kept under the other settings.
    """
    if config.run.frozen_verdicts == "fresh":
        return OnlineTeacher()
    _check(config.run, "frozen_verdicts")
    facts = {
        "weights": weights_digest(model),
        "model": model.make_digest(),
        # The first process's facts count.
        "videos": video_samples(config, splits=config.run.train_splits) if world.is_main else {},
        "precision": _precision(config.run),
        "datasets": {
            name: [dataset.prompt, asdict(dataset.vis_processor.train), info.reader, info.fps]
            for name, dataset in config.datasets.items()
            for info in [dataset.build_info.videos]
        },
    }
    return CachedTeacher(origin=_origin(facts, world))


def build_memory(config: TrainConfig, model: TrainableModel, world: World) -> ClipMemory | None:
    """Build what keeps the tokens that the frozen role reads of clips; errors as for `build_teacher`."""
    run = config.run
    if run.frame_cache is None:
        return None
    _check(run, "frame_cache")
    for name, dataset in config.datasets.items():
        processor = dataset.vis_processor.train.name
        if registry.processors.get(processor).is_random:
            raise ConfigError(
                f"run.frame_cache finds no frame of {processor!r} again, which draws others each time; "
                f"set datasets.{name}.vis_processor.train.name=blip_video_eval, or run.frame_cache=null"
            )
    cache = FrameCache(run.frame_cache, max_bytes=round(run.frame_cache_gib * _GIB))
    facts = {"watching": model.watching_key(), "precision": _precision(run)}
    return ClipMemory(cache, origin=_origin(facts, world))


def _check(run: RunConfig, key: str) -> None:
    if run.published_quirks:
        raise ConfigError(
            f"run.{key} keeps what frozen parts make, and with run.published_quirks they drop out and train; "
            "set one of them to its default"
        )
    if run.distributed == "fsdp":
        raise ConfigError(
            f"run.{key} lets each process skip passes, and with run.distributed=fsdp all must run the same; "
            "set one of them to its default"
        )


def _precision(run: RunConfig) -> str | None:
    return run.amp_dtype if run.amp else None


def _origin(facts: dict[str, Any], world: World) -> str:
    """Return a digest of the first process's facts: its weights become those of all."""
    mine = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    first: str = world.gather(mine)[0]
    return first


def num_iterations(recipes: Sequence[TrainConfig]) -> int:
    """Return how often recipes ask to be run in turn (`run.iterations`); those that leave it at 1 do not count.

    Raises:
        ConfigError: they ask for different numbers.
    """
    asked = sorted({recipe.run.iterations for recipe in recipes} - {1})
    if len(asked) > 1:
        raise ConfigError(f"the recipes have run.iterations {' and '.join(map(str, asked))}; give all the same")
    return asked[0] if asked else 1


def stages_in_order(recipes: Sequence[TrainConfig], *, iterations: int = 1) -> Iterator[TrainConfig]:
    """Yield the runs of a multi-stage training, one after another; each starts from the best weights of all before it.

    Args:
        recipes: the stages, in order.
        iterations: how often all of them run; with more than one, each run writes to its output folder's `round1`,
            `round2`, ...

    Raises:
        ConfigError: fewer than one iteration, or two stages that write to the same folder.
    """
    if iterations < 1:
        raise ConfigError(f"--iterations is {iterations}; it must be 1 or more")
    outputs = [recipe.run.output_dir for recipe in recipes]
    for output in outputs:
        if outputs.count(output) > 1:
            raise ConfigError(f"two recipes write to {output}; set run.output_dir in the recipes, not in --options")
    newest: dict[int, str] = {}
    for number in range(1, iterations + 1):
        for stage, recipe in enumerate(recipes):
            folder = Path(recipe.run.output_dir)
            folder = folder / f"round{number}" if iterations > 1 else folder
            yield _starting_from(recipe, list(newest.values()), folder)
            newest[stage] = str(folder / BEST_FOLDER)


def _starting_from(config: TrainConfig, earlier: Sequence[str], folder: Path) -> TrainConfig:
    finetuned = [*map(str, weight_paths(config.model.finetuned)), *earlier]
    changes = {"model": {"finetuned": finetuned}, "run": {"output_dir": str(folder)}}
    return replace(
        config,
        model=replace(config.model, finetuned=finetuned),
        run=replace(config.run, output_dir=str(folder)),
        resolved=merged([config.resolved, changes]),
    )
