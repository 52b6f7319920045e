"""A video that was seen before is not seen again, and what is known of it is exactly the same."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import lavis
from lavis.common.types import Question, Span
from lavis.models.frame_cache import FrameCache
from lavis.models.pipeline import WatchedVideo
from lavis.models.sevila.model import SeViLA
from tests.precision import assert_near_float64, in_float64
from tests.videos import cut, write_video

QUESTIONS = [Question("What is shown?", ("a red box", "a blue ball", "a cat")), Question("Why?")]


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return lavis.load_model("sevila", "tiny", device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("cache") / "clip.mp4", num_frames=75)


@dataclass
class Seen:
    frames: int = 0


@pytest.fixture
def seen(model: SeViLA) -> Iterator[Seen]:
    """Counts the frames that go through the vision tower."""
    counted = Seen()

    def count(_: object, args: tuple[torch.Tensor]) -> None:
        counted.frames += len(args[0])

    hook = model.vision.register_forward_pre_hook(count)
    yield counted
    hook.remove()


def assert_identical(one: WatchedVideo, other: WatchedVideo) -> None:
    for seen, again in zip(one.model.encoders, other.model.encoders, strict=True):
        assert torch.equal(one.source.encoded(seen), other.source.encoded(again))
    assert one.frame_idx.tolist() == other.frame_idx.tolist()
    assert one.times_s.tolist() == other.times_s.tolist()
    assert (one.info, one.warnings) == (other.info, other.warnings)
    for ours, theirs in zip(one.ask_all(QUESTIONS), other.ask_all(QUESTIONS), strict=True):
        np.testing.assert_array_equal(ours.option_scores, theirs.option_scores)
        np.testing.assert_array_equal(ours.keyframes.all_scores, theirs.keyframes.all_scores)
        assert (ours.text, ours.caveats) == (theirs.text, theirs.caveats)


def test_a_recalled_video_is_exactly_the_one_that_was_watched(
    model: SeViLA, clip: Path, seen: Seen, tmp_path: Path
) -> None:
    plain = model.watch(clip, num_frames=10)
    cache = FrameCache(tmp_path)
    first, progress = model.watch(clip, num_frames=10, cache=cache), []
    assert seen.frames == 20
    again = model.watch(clip, num_frames=10, cache=cache, progress=lambda *step: progress.append(step))
    assert seen.frames == 20
    assert again.timings.decode_s == 0
    assert progress == [(10, 10)]
    assert_identical(first, plain)
    assert_identical(again, plain)


def unread(video: WatchedVideo) -> list[int]:
    """The frames of which the Answerer's tokens are not made."""
    found: list[int] = video.source.missing(video.model.encoders[1], range(len(video.source))).tolist()
    return found


def test_with_a_cache_tokens_of_all_frames_are_made_and_answer_as_those_of_chosen_frames(
    model: SeViLA, clip: Path, tmp_path: Path
) -> None:
    # Frames that score alike to rounding may change places, so they are not chosen by score.
    plain = in_float64(model).watch(clip, num_frames=10)
    answers = plain.ask_all(QUESTIONS, selector="uniform")
    assert len(unread(plain)) > 0
    for _ in ("kept", "recalled"):
        cached = model.watch(clip, num_frames=10, cache=FrameCache(tmp_path))
        assert unread(cached) == []
        for ours, theirs in zip(cached.ask_all(QUESTIONS, selector="uniform"), answers, strict=True):
            assert ours.text == theirs.text
            assert_near_float64(ours.option_scores, theirs.option_scores, dtype=torch.float32)


def test_a_copy_under_another_name_is_the_same_video(model: SeViLA, clip: Path, seen: Seen, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache")
    model.watch(clip, num_frames=4, cache=cache)
    copied = tmp_path / "other.mp4"
    shutil.copyfile(clip, copied)
    again = model.watch(copied, num_frames=4, cache=cache)
    assert seen.frames == 4
    assert again.path == copied
    assert again.info.path == str(copied)


def test_other_frames_or_another_precision_are_watched(model: SeViLA, clip: Path, seen: Seen, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    model.watch(clip, num_frames=4, cache=cache)
    assert len(model.watch(clip, num_frames=5, cache=cache).times_s) == 5
    assert model.watch(clip, num_frames=4, clip=Span(1.0, 2.0), cache=cache).times_s[0] >= 1
    assert seen.frames == 13
    half = lavis.load_model("sevila", "tiny", device="cpu", dtype="bf16")
    assert half.watch(clip, num_frames=4, cache=cache).source.encoded(half.encoder("answerer")).dtype == torch.bfloat16
    assert cache.usage().entries == 4


def test_what_was_wrong_with_a_file_is_remembered_too(model: SeViLA, tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mkv", num_frames=75)
    cut(short, keep=0.6)
    cache = FrameCache(tmp_path / "cache")
    plain, *cached = (model.watch(short, num_frames=3, cache=one) for one in (None, cache, cache))
    assert len(plain.warnings) == 1
    assert [video.warnings for video in cached] == [plain.warnings] * 2


def test_a_damaged_entry_is_watched_again_and_mended(model: SeViLA, clip: Path, seen: Seen, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    first = model.watch(clip, num_frames=4, cache=cache)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:-5])
    assert_identical(model.watch(clip, num_frames=4, cache=cache), first)
    assert seen.frames == 8
    model.watch(clip, num_frames=4, cache=cache)
    assert seen.frames == 8


OTHERS = {
    "nothing": lambda kept: {},
    "other names": lambda kept: {"value": torch.zeros(3)},
    "a role less": lambda kept: {name: value for name, value in kept.items() if name != "answerer"},
    "fewer frames": lambda kept: {**kept, "frame_idx": kept["frame_idx"][:2], "times_s": kept["times_s"][:2]},
    "fewer times": lambda kept: {**kept, "times_s": kept["times_s"][:2]},
    "tokens of another size": lambda kept: {**kept, "localizer": kept["localizer"][:, :, :3]},
    "whole numbers": lambda kept: {**kept, "answerer": kept["answerer"].long()},
    "warnings that are none": lambda kept: {**kept, "warnings": torch.tensor([255, 0], dtype=torch.uint8)},
    "warnings that are numbers": lambda kept: {**kept, "warnings": torch.tensor([53], dtype=torch.uint8)},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_an_entry_of_something_else_is_watched_again_and_mended(
    change: Callable[[dict], dict], model: SeViLA, clip: Path, seen: Seen, tmp_path: Path
) -> None:
    """Its checksum is right: somebody else wrote it."""
    cache = FrameCache(tmp_path)
    first = model.watch(clip, num_frames=4, cache=cache)
    (entry,) = tmp_path.iterdir()
    cache.write(entry.stem, change(cache.read(entry.stem)))
    assert_identical(model.watch(clip, num_frames=4, cache=cache), first)
    assert seen.frames == 8
    model.watch(clip, num_frames=4, cache=cache)
    assert seen.frames == 8


def write_and_read(folder: Path, key: str, number: int) -> list[bool]:
    """Write one entry over and over, and say whether each reading was whole and some process's own."""
    cache = FrameCache(folder, max_bytes=60_000)
    whole = []
    for turn in range(20):
        cache.write(key, {"value": torch.full((5000,), number)})
        cache.write(f"{number}{turn:063d}", {"value": torch.full((2000,), number)})
        found = cache.read(key)
        whole.append(found is None or len(found["value"].unique()) == 1)
    return whole


def test_two_processes_write_and_read_one_entry_and_drive_others_out(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(write_and_read, tmp_path, "ab", number) for number in (1, 2)]
        assert all(all(job.result()) for job in jobs)
    found = FrameCache(tmp_path).read("ab")
    assert found is not None
    assert found["value"].unique().tolist() in ([1], [2])
    assert FrameCache(tmp_path).usage().num_bytes <= 60_000
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
