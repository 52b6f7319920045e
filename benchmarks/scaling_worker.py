"""One process of the scaling benchmark, started by torchrun.

Arguments: file for the seconds, and the work as JSON.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.fixtures import model_of
from benchmarks.measure import profiled, set_threads, synchronize
from benchmarks.training_side import noise_batch, ready_to_train
from lavis.cli.main import reported
from lavis.common.distributed import World, join_world
from lavis.common.errors import ConfigError
from lavis.common.files import write_text
from lavis.runners.optim import Parallel, build_adamw
from lavis.runners.trainer import Updater

_RATE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every process does.

    Attributes:
        threads: of each process; on the CPU it is pinned to as many cores.
        steps: with exchange of gradients, and as many without, by turns.
        profile: file for a trace of one step of the first process.
    """

    task: str
    size: str
    dtype: str
    device: str
    threads: int
    batch_size: int
    num_frames: int
    num_keyframes: int
    steps: int
    profile: str | None = None


def allowed_cores() -> list[int]:
    """Return the cores that this process may run on.

    Raises:
        ConfigError: the system does not let processes be pinned.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError("this system does not pin processes to cores; run the scaling benchmark on Linux")
    return sorted(os.sched_getaffinity(0))


def pin(work: Work, *, place: int) -> None:
    """Let this process compute on cores of its own.

    Args:
        place: of the process among those of this machine.
    """
    set_threads(work.threads)
    if work.device == "cpu":
        first = place * work.threads
        os.sched_setaffinity(0, allowed_cores()[first : first + work.threads])


class Steps:
    """The optimizer step of `sevila train`, with and without exchanging gradients with the other processes."""

    def __init__(self, work: Work, world: World) -> None:
        torch.manual_seed(0)
        self._world = world
        model = model_of(work.size, dtype=work.dtype, device=world.device)
        objective = ready_to_train(model, work.task, num_keyframes=work.num_keyframes)
        self._batch = noise_batch(
            model, size=work.size, batch_size=work.batch_size, num_frames=work.num_frames, seed=world.rank
        )
        optimizer = build_adamw(model.trainable_parameters(), lr=_RATE)
        self._together = Updater(Parallel(model, world), objective, optimizer, world=world)
        # The same weights: called past the wrapper, no hook of it exchanges anything.
        alone = World(device=world.device)
        self._alone = Updater(Parallel(model, alone), objective, optimizer, world=alone)

    def together(self) -> float:
        """Return the seconds of a step with exchange."""
        return self._timed(self._together)

    def alone(self) -> float:
        """Return the seconds of a step without."""
        return self._timed(self._alone)

    def _timed(self, updater: Updater) -> float:
        synchronize(self._world.device)
        self._world.wait()
        started = time.perf_counter()
        updater.update([self._batch], rate=_RATE)
        synchronize(self._world.device)
        return time.perf_counter() - started


def main(target: Path, work: Work) -> int:
    """Run a round; the first process writes the seconds of each step."""
    pin(work, place=int(os.environ["LOCAL_RANK"]))
    with join_world(device=work.device) as world:
        # Models are freed before their processes part.
        figures = _run(work, world)
        if world.is_main:
            write_text(target, json.dumps(figures))
    return 0


def _run(work: Work, world: World) -> dict[str, list[float]]:
    steps = Steps(work, world)
    for warm_up in (steps.together, steps.alone):
        warm_up()
    measured = [(steps.together(), steps.alone()) for _ in range(work.steps)]
    slowest = [max(times) for times in zip(*world.gather([alone for _, alone in measured]), strict=True)]
    with profiled(Path(work.profile) if work.profile and world.is_main else None):
        if work.profile:
            steps.together()
    return {"step_s": [together for together, _ in measured], "alone_s": slowest}


if __name__ == "__main__":
    sys.exit(reported(lambda: main(Path(sys.argv[1]), Work(**json.loads(sys.argv[2])))))
