"""From settings to what a run keeps of its frozen role: verdicts on frames, and tokens of clips."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.models.frame_cache import FrameCache
from lavis.models.sevila.identity import make_digest, weights_digest
from lavis.models.sevila.model import SeViLA
from lavis.runners.config import RunConfig, TrainConfig
from lavis.runners.inputs import video_samples
from lavis.tasks.build import Frozen
from lavis.tasks.objectives.frozen_tokens import CachedTokens, LocalizerTokens, WatchedTokens
from lavis.tasks.objectives.verdicts import FreshVerdicts, RememberedVerdicts, Verdicts

_GIB = 2**30


def build_frozen(config: TrainConfig, model: SeViLA, world: World) -> Frozen:
    """Build what is kept of the frozen role; to be called before anything trains, by every process.

    Raises:
        ConfigError: it cannot be kept under the other settings.
    """
    return Frozen(_verdicts(config, model, world), _tokens(config, model, world))


def _verdicts(config: TrainConfig, model: SeViLA, world: World) -> Verdicts:
    if config.run.frozen_verdicts == "fresh":
        return FreshVerdicts()
    _check(config.run, "frozen_verdicts")
    facts = {
        "weights": weights_digest(model),
        "model": make_digest(model),
        # The first process's facts count.
        "videos": video_samples(config, splits=config.run.train_splits) if world.is_main else {},
        "precision": _precision(config.run),
        "datasets": {
            name: [dataset.prompt, asdict(dataset.vis_processor.train), info.reader, info.fps]
            for name, dataset in config.datasets.items()
            for info in [dataset.build_info.videos]
        },
    }
    return RememberedVerdicts(origin=_origin(facts, world))


def _tokens(config: TrainConfig, model: SeViLA, world: World) -> LocalizerTokens:
    run = config.run
    if run.frame_cache is None:
        return WatchedTokens()
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
    return CachedTokens(cache, origin=_origin(facts, world))


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
