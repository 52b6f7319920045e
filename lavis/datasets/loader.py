"""Which samples each process reads in which order, and reading them in worker processes."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.context import BaseContext
from typing import cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lavis.common.registry import import_in_worker, registry
from lavis.datasets.dataset import ClipBatch, QuestionDataset, SampleKey, collate


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches in which every sample of an epoch occurs exactly once, over all processes together.

    All processes take equally many batches, so they stay in step. The samples of a step do not depend
    on the number of processes as long as batch size times processes stays the same. In the last step
    of an epoch processes may get fewer samples, or none.

    Args:
        batch_size: samples per step of one process.
        samples_per_step: of all processes together; None is `batch_size` times processes. A run that resumes
            with another number of processes gives the number it began with, so that its steps stay the same.
        shuffle: order by `seed` and epoch; else as in the file.

    Example:
        >>> batches = EpochBatches(5, batch_size=2, shuffle=False)
        >>> [[key.index for key in batch] for batch in batches]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        samples_per_step: int | None = None,
        shuffle: bool = True,
    ) -> None:
        self._num_samples = num_samples
        self._per_step = samples_per_step or batch_size * world_size
        self._rank, self._world_size = rank, world_size
        self._seed, self._shuffle = seed, shuffle
        self._epoch, self._first_batch = 0, 0

    def seek(self, *, epoch: int, first_batch: int = 0) -> None:
        """Let the next iteration start at this batch of this epoch."""
        self._epoch, self._first_batch = epoch, first_batch

    @property
    def samples_per_step(self) -> int:
        """Samples of a step, of all processes together."""
        return self._per_step

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-self._num_samples // self._per_step)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self._epoch
        order = np.arange(self._num_samples)
        if self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._num_samples)
        for batch in range(self._first_batch, len(self)):
            together = order[batch * self._per_step : (batch + 1) * self._per_step]
            share = np.array_split(together, self._world_size)[self._rank]
            yield [SampleKey(epoch, index) for index in share.tolist()]


def _worker_context() -> BaseContext:
    # Forking a process that runs several threads can deadlock in the child. Instead, a server process that has
    # imported everything forks the workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "lavis.processors.transforms", "av"])
    return context


def _start_worker(plugins: Sequence[str], _worker: int) -> None:
    """Import what adds parts in the main process, and let a worker end with that process, and not before.

    A scheduler sends SIGTERM to all processes; the main process ends its workers once it has saved. If it is killed,
    torch's workers would notice a change of parent, but their parent is the fork server, which lives on.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None, "a worker has a parent"
    threading.Thread(target=_end_with, args=(main.sentinel,), daemon=True).start()
    import_in_worker(plugins)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def build_loader(
    dataset: QuestionDataset,
    batches: Sampler[list[SampleKey]] | Sequence[list[SampleKey]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    timeout_s: float = 0,
) -> "DataLoader[ClipBatch]":
    """Build a loader that reads the given batches, in order.

    Args:
        num_workers: processes that decode ahead; 0 reads in this one.
        pin_memory: prepare batches for a faster copy to a GPU.
        timeout_s: how long a batch is waited for, where workers read it; 0 waits for ever.
    """
    # What the loader yields is what `collate` makes of the dataset's samples.
    return DataLoader(
        cast("Dataset[ClipBatch]", dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        timeout=timeout_s if num_workers else 0,
        worker_init_fn=partial(_start_worker, registry.plugins()),
        persistent_workers=num_workers > 0,
        multiprocessing_context=_worker_context() if num_workers else None,
        # The loader draws a seed per epoch, which must not disturb the random numbers of training.
        generator=torch.Generator(),
    )
