"""Writes the gradients of one step over a whole epoch; run alone, or by torchrun on several processes.

Arguments: file for the gradients, recipe, then settings.
"""

import sys
from pathlib import Path

from safetensors.torch import save_file

from lavis.cli.main import reported
from lavis.common.distributed import World, join_world
from lavis.datasets.dataset import EpochBatches, build_loader
from lavis.runners.build import build_parts, build_updater, join_training_splits
from lavis.runners.config import load_train_config
from lavis.runners.optim import full_tensor


def write_gradients(target: Path, recipe: Path, options: list[str], world: World) -> None:
    config = load_train_config(recipe, options=options)
    run = config.run
    parts = build_parts(config, world)
    dataset = join_training_splits(parts.builder, run.train_splits)
    batches = EpochBatches(len(dataset), batch_size=run.batch_size_train, rank=world.rank, world_size=world.size)
    updater = build_updater(run, parts, world=world)
    parts.model.train()
    read = build_loader(dataset, batches)
    report = updater.accumulate(list(read))
    gradients = {name: full_tensor(value.grad).clone() for name, value in parts.model.trainable_parameters()}
    if world.is_main:
        save_file(gradients, target, metadata={"loss": repr(report.metrics["loss"])})


def main(target: str, recipe: str, *options: str) -> int:
    with join_world(device="cpu") as world:
        write_gradients(Path(target), Path(recipe), list(options), world)
    return 0


if __name__ == "__main__":
    sys.exit(reported(lambda: main(*sys.argv[1:])))
