from itertools import chain

import pytest

from lavis.datasets.dataset import SampleKey
from lavis.datasets.loader import EpochBatches


def epoch_of(world_size: int, *, samples: int, batch_size: int, epoch: int = 0, seed: int = 0) -> list[list[list[int]]]:
    """Indices by process and step."""
    shares = []
    for rank in range(world_size):
        batches = EpochBatches(samples, batch_size=batch_size, rank=rank, world_size=world_size, seed=seed)
        batches.seek(epoch=epoch)
        shares.append([[key.index for key in batch] for batch in batches])
    return shares


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("samples", [1, 4, 7, 20, 23])
def test_every_sample_is_read_once_an_epoch(world_size: int, samples: int) -> None:
    shares = epoch_of(world_size, samples=samples, batch_size=2)
    assert sorted(chain(*chain(*shares))) == list(range(samples))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
def test_all_processes_take_the_same_number_of_steps(world_size: int) -> None:
    shares = epoch_of(world_size, samples=23, batch_size=2)
    assert {len(share) for share in shares} == {-(-23 // (2 * world_size))}
    assert len(EpochBatches(23, batch_size=2, world_size=world_size)) == -(-23 // (2 * world_size))


def test_the_samples_of_a_step_do_not_depend_on_the_number_of_processes() -> None:
    alone = epoch_of(1, samples=23, batch_size=6)[0]
    for world_size, batch_size in ((2, 3), (3, 2), (6, 1)):
        shares = epoch_of(world_size, samples=23, batch_size=batch_size)
        assert [sorted(chain(*step)) for step in zip(*shares, strict=True)] == [sorted(step) for step in alone]


def test_epochs_and_seeds_order_samples_differently_and_always_the_same() -> None:
    first = epoch_of(1, samples=50, batch_size=5)
    assert epoch_of(1, samples=50, batch_size=5) == first
    assert epoch_of(1, samples=50, batch_size=5, epoch=1) != first
    assert epoch_of(1, samples=50, batch_size=5, seed=1) != first


@pytest.mark.parametrize("first_batch", [0, 1, 3, 4])
def test_seeking_leaves_out_exactly_what_was_done(first_batch: int) -> None:
    batches = EpochBatches(10, batch_size=2, seed=3)
    batches.seek(epoch=2)
    whole = list(batches)
    batches.seek(epoch=2, first_batch=first_batch)
    assert list(batches) == whole[first_batch:]


def test_keys_carry_the_epoch() -> None:
    batches = EpochBatches(2, batch_size=1, shuffle=False)
    batches.seek(epoch=7)
    assert list(batches) == [[SampleKey(7, 0)], [SampleKey(7, 1)]]
