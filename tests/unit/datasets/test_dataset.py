from pathlib import Path

import pytest
import torch

from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import Sample, SampleKey, Unreadable, VideoQuestionDataset, collate
from lavis.datasets.loader import build_loader
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


def test_loading_draws_no_random_numbers_of_the_process(folder: Path) -> None:
    before = torch.get_rng_state()
    list(build_loader(dataset(folder, "long"), [[SampleKey(0, 0)]]))
    assert torch.equal(torch.get_rng_state(), before)
