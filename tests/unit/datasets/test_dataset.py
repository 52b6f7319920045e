from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch

from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import (
    EpochBatches,
    JoinedDataset,
    MixedDataset,
    Sample,
    SampleKey,
    Unreadable,
    VideoQuestionDataset,
    build_loader,
    collate,
    mixed_counts,
)
from lavis.datasets.videos import VideoFolders
from lavis.processors.transforms import RandomClip, UniformClip
from tests.videos import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    write_video(made / "long.mp4", num_frames=40)
    write_video(made / "short.mp4", num_frames=3)
    (made / "broken.mp4").write_bytes(b"no video")
    return made


def dataset(folder: Path, *names: str, processor: object = None, seed: int = 0) -> VideoQuestionDataset:
    rows = [Annotation(Question("What", ("a", "b"), id=str(i), answer=0, video=name)) for i, name in enumerate(names)]
    return VideoQuestionDataset(
        rows,
        videos=VideoFolders({"0": folder}),
        processor=processor or RandomClip(num_frames=4, image_size=32),
        seed=seed,
    )


def test_a_sample_depends_on_seed_epoch_and_index_alone(folder: Path) -> None:
    samples = dataset(folder, "long", "long")
    first = samples[SampleKey(0, 0)]
    _ = samples[SampleKey(0, 1)]
    again = samples[SampleKey(0, 0)]
    assert isinstance(first, Sample)
    assert isinstance(again, Sample)
    assert torch.equal(first.clip.pixels, again.clip.pixels)
    for other in (samples[SampleKey(0, 1)], samples[SampleKey(1, 0)], dataset(folder, "long", seed=1)[SampleKey(0, 0)]):
        assert isinstance(other, Sample)
        assert not torch.equal(first.clip.pixels, other.clip.pixels)


@pytest.mark.parametrize("name", ["broken", "missing"])
def test_an_unreadable_video_is_reported_and_not_replaced(folder: Path, name: str) -> None:
    samples = dataset(folder, "long", name, "long")
    batch = collate([samples[SampleKey(0, index)] for index in range(3)])
    assert [question.id for question in batch.questions] == ["0", "2"]
    assert batch.pixels.shape == (2, 4, 3, 32, 32)
    (failed,) = batch.unreadable
    assert failed.question.id == "1"
    assert name in failed.reason


def test_a_clip_outside_the_video_is_unreadable(folder: Path) -> None:
    row = Annotation(Question("What", id="0", video="long", clip=Span(100, 110)))
    samples = VideoQuestionDataset(
        [row], videos=VideoFolders({"0": folder}), processor=UniformClip(num_frames=4, image_size=32)
    )
    failed = samples[SampleKey(0, 0)]
    assert isinstance(failed, Unreadable)
    assert "lies outside the video" in failed.reason


def test_a_batch_may_be_empty(folder: Path) -> None:
    assert len(collate([])) == 0
    assert len(collate([dataset(folder, "missing")[SampleKey(0, 0)]])) == 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_gives_the_same_batches_with_and_without_workers(folder: Path, num_workers: int) -> None:
    samples = dataset(folder, "long", "short", "missing")
    keys = [[SampleKey(3, 1), SampleKey(3, 0)], [SampleKey(3, 2)], []]
    batches = list(build_loader(samples, keys, num_workers=num_workers))
    assert [[question.id for question in batch.questions] for batch in batches] == [["1", "0"], [], []]
    expected = samples[SampleKey(3, 0)]
    assert isinstance(expected, Sample)
    assert torch.equal(batches[0].pixels[1], expected.clip.pixels)


def test_pictures_of_several_sizes_lie_in_the_upper_left_and_come_back_as_they_were(tmp_path: Path) -> None:
    write_video(tmp_path / "wide.mp4", num_frames=8, width=64, height=32)
    write_video(tmp_path / "high.mp4", num_frames=8, width=32, height=48)
    samples = dataset(
        tmp_path, "wide", "missing", "high", processor=RandomClip(num_frames=2, image_size=None, max_side=64)
    )
    batch = collate([samples[SampleKey(0, index)] for index in range(3)])
    assert (batch.pixels.shape, batch.pixels.dtype) == ((2, 2, 3, 48, 64), torch.uint8)
    assert (batch.sizes, batch.places) == (((32, 64), (48, 32)), (0, 2))
    for row, place in enumerate(batch.places):
        sample = samples[SampleKey(0, place)]
        assert isinstance(sample, Sample)
        assert torch.equal(batch.clip(row), sample.clip.pixels)
        assert torch.equal(batch.part(row, row + 1).clip(0), sample.clip.pixels)


def test_samples_of_joined_datasets_open_their_own_videos(folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "wide.mp4", num_frames=8, width=64, height=32)
    joined = JoinedDataset([dataset(folder, "long", "short"), dataset(tmp_path, "wide")])
    found = []
    for index in range(3):
        with joined.open_video(index) as video:
            found.append(video.info.num_frames)
    assert found == [40, 3, 8]


def test_loading_draws_no_random_numbers_of_the_process(folder: Path) -> None:
    before = torch.get_rng_state()
    list(build_loader(dataset(folder, "long"), [[SampleKey(0, 0)]]))
    assert torch.equal(torch.get_rng_state(), before)


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
    batches = EpochBatches(2, batch_size=1)
    batches.seek(epoch=7)
    assert sorted(batches, key=str) == [[SampleKey(7, 0)], [SampleKey(7, 1)]]


RATIOS = [([30, 12], [2, 1]), ([30, 12], [1, 5]), ([7, 7, 7], [1, 1, 1]), ([5, 100], [0.5, 0.25]), ([1, 3], [1, 1])]


class Named:
    """A dataset whose samples say which they are, and with which epoch they were asked for."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: SampleKey) -> Unreadable:
        return Unreadable(Question(self._name, id=f"{self._name}{key.index}"), str(key.epoch))


def parts(sizes: list[int]) -> list[Named]:
    return [Named("abc"[number], size) for number, size in enumerate(sizes)]


def epoch_ids(dataset: JoinedDataset | MixedDataset, epoch: int) -> list[str]:
    return [dataset[SampleKey(epoch, index)].question.id for index in range(len(dataset))]


@pytest.mark.parametrize(
    ("sizes", "ratios", "counts"),
    [
        ([30, 12], [2, 1], [28, 14]),
        ([30, 12], [1, 5], [7, 35]),
        ([10, 5], [1, 1], [8, 7]),
        ([5, 100], [0.5, 0.25], [70, 35]),
        ([34_132, 45_731, 30_000], [1, 1, 1], [36_621, 36_621, 36_621]),
        ([1, 1, 1], [1, 1, 4], [1, 0, 2]),
    ],
)
def test_an_epoch_is_shared_out_exactly(sizes: list[int], ratios: list[float], counts: list[int]) -> None:
    assert mixed_counts(sizes, ratios) == counts
    assert sum(counts) == sum(sizes)


@pytest.mark.parametrize(("sizes", "ratios"), RATIOS)
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_epoch_holds_the_counts_of_every_dataset(sizes: list[int], ratios: list[float], epoch: int) -> None:
    counts = mixed_counts(sizes, ratios)
    ids = epoch_ids(MixedDataset(parts(sizes), counts=counts), epoch)
    assert [Counter(name[0] for name in ids)["abc"[number]] for number in range(len(sizes))] == counts


@pytest.mark.parametrize(("sizes", "ratios"), RATIOS)
def test_no_sample_comes_again_before_all_others_of_its_dataset_came(sizes: list[int], ratios: list[float]) -> None:
    mixed = MixedDataset(parts(sizes), counts=mixed_counts(sizes, ratios), seed=3)
    seen: Counter[str] = Counter()
    for epoch in range(6):
        seen.update(epoch_ids(mixed, epoch))
        for name, size in zip("abc", sizes, strict=False):
            times = [seen[f"{name}{index}"] for index in range(size)]
            assert max(times) - min(times) <= 1


def test_a_sample_that_comes_twice_in_an_epoch_is_asked_for_differently() -> None:
    mixed = MixedDataset(parts([2, 6]), counts=[4, 4])
    drawn = [mixed[SampleKey(0, index)] for index in range(4)]
    assert sorted((sample.question.id, sample.reason) for sample in drawn) == [
        ("a0", "0"), ("a0", "1"), ("a1", "0"), ("a1", "1"),
    ]  # fmt: skip


def test_the_seed_decides_whose_turn_it_is() -> None:
    first, other = (epoch_ids(MixedDataset(parts([30, 12]), counts=[20, 22], seed=seed), 0) for seed in (0, 1))
    assert first == epoch_ids(MixedDataset(parts([30, 12]), counts=[20, 22], seed=0), 0)
    assert first != other


def test_without_ratios_datasets_follow_each_other_and_keep_the_epoch() -> None:
    joined = JoinedDataset(parts([2, 3]))
    assert epoch_ids(joined, 5) == ["a0", "a1", "b0", "b1", "b2"]
    assert {joined[SampleKey(5, index)].reason for index in range(5)} == {"5"}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_counts_exactly(world_size: int) -> None:
    mixed = MixedDataset(parts([30, 12]), counts=[28, 14])
    ids = [
        mixed[key].question.id
        for rank in range(world_size)
        for batch in EpochBatches(len(mixed), batch_size=4, rank=rank, world_size=world_size)
        for key in batch
    ]
    assert Counter(name[0] for name in ids) == {"a": 28, "b": 14}
    assert len(set(ids)) == 28 + 12
