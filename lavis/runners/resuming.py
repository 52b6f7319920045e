"""What a run goes on from, and how it keeps that."""

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.runners.checkpoints import Checkpoint, CheckpointStore
from lavis.runners.config import RunConfig
from lavis.runners.saving import Saver, ShardedSaver, WholeSaver


def build_saver(run: RunConfig, store: CheckpointStore, *, world: World) -> Saver:
    """Build what makes checkpoints."""
    if run.distributed == "fsdp" and world.size > 1:
        return ShardedSaver(store, world=world, timeout_s=run.distributed_timeout_s)
    return WholeSaver(store, world=world)


def find_checkpoint(store: CheckpointStore, run: RunConfig, *, num_samples: int, world: World) -> Checkpoint | None:
    """Return what to go on from, if there is anything; every process gets the same.

    Raises:
        ConfigError: the run was begun with something that cannot change.
    """
    if run.resume != "auto":
        return None
    found: Checkpoint | None = world.gather(store.newest() if world.is_main else None)[0]
    if found is None:
        return None
    shape = found.manifest.shape
    if shape.seed != run.seed:
        raise ConfigError(f"{run.output_dir} was begun with run.seed={shape.seed}, not {run.seed}; go on with that")
    if shape.num_samples != num_samples:
        raise ConfigError(
            f"{run.output_dir} was begun on {shape.num_samples} training samples, now there are {num_samples}; "
            "name another run.output_dir"
        )
    if shape.processes != world.size and run.published_quirks:
        raise ConfigError(
            f"{run.output_dir} was begun on {shape.processes} processes, not {world.size}; "
            "with run.published_quirks that would be another training"
        )
    return found
