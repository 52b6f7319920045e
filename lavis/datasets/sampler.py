"""Which samples each process reads, in which order: a function of seed, epoch and position alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from lavis.datasets.dataset import SampleKey


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches in which every sample of an epoch occurs exactly once, over all processes together.

    All processes take equally many batches, so they stay in step. The samples of a step do not depend
    on the number of processes as long as batch size times processes stays the same. In the last step
    of an epoch processes may get fewer samples, or none.

    Args:
        batch_size: samples per step of one process.
        samples_per_step: of all processes together; None is `batch_size` times processes. A run that goes on
            with another number of processes keeps its steps by this.
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
