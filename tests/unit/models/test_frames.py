"""Frames are decoded and encoded when they are asked for, once each."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavis.common.errors import VideoError
from lavis.common.types import FrameBatch, Integers, VideoInfo
from lavis.models.frames import MAX_KEPT_INPUTS, FrameEncoder, FrameSource, FrameView, Timings
from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import SeViLA
from lavis.processors.transforms import CLIP_MEAN, CLIP_STD, EvalTransform
from lavis.video import VideoReader, open_video
from lavis.video.base import Picture
from tests.precision import assert_near_float64
from tests.unit.models.tiny import frames_of, random_pixels, recorded
from tests.videos import numbered_picture, shown_numbers


class Recorded:
    """Two steps: frames to their numbers, and numbers to their doubles; what each was given is noted."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.doubled: list[list[int]] = []
        self.numbers = FrameEncoder("numbers", self._number, size=64)
        self.doubles = FrameEncoder("doubles", self._double, before=self.numbers)
        self.others = FrameEncoder("others", lambda numbers: numbers + 1, before=self.numbers)

    def _number(self, frames: FrameBatch | torch.Tensor) -> torch.Tensor:
        shown = frames[:, 0, 0, 0].tolist() if isinstance(frames, torch.Tensor) else shown_numbers(frames.frames)
        self.seen.append(list(map(int, shown)))
        return torch.tensor(self.seen[-1], dtype=torch.float32)

    def _double(self, numbers: torch.Tensor) -> torch.Tensor:
        self.doubled.append(numbers.int().tolist())
        return numbers * 2


@pytest.fixture
def steps() -> Recorded:
    return Recorded()


def prepared(count: int, *, together: Sequence[FrameEncoder] = (), chunk: int = 32) -> FrameSource:
    """Pixels that show the numbers of their frames."""
    pixels = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 3, 2, 2)
    return FrameSource(np.arange(count), np.arange(count) / 2, pixels=pixels, together=together, chunk=chunk)


def filmed(path: Path, frame_idx: Sequence[int]) -> FrameSource:
    chosen = np.array(frame_idx)
    return FrameSource(chosen, chosen / 25, open_video=partial(open_video, path))


def test_nothing_is_decoded_before_it_is_asked_for(clip: Path, steps: Recorded) -> None:
    frames = filmed(clip, range(0, 50, 2))
    assert len(frames) == 25
    assert frames.encoded(steps.doubles, [3, 20]).tolist() == [12, 80]
    assert steps.seen == [[6, 40]]


def test_a_frame_is_encoded_once_and_given_in_the_order_asked(steps: Recorded) -> None:
    frames = prepared(9)
    assert frames.encoded(steps.doubles, [7, 2, 2]).tolist() == [14, 4, 4]
    assert frames.encoded(steps.doubles, [[0, 7], [8, 2]]).tolist() == [0, 14, 16, 4]
    assert (steps.seen, steps.doubled) == ([[2, 7], [0, 8]], [[2, 7], [0, 8]])
    assert frames.encoded(steps.doubles).tolist() == list(range(0, 18, 2))
    assert steps.seen[2:] == [[1, 3, 4, 5, 6]]
    assert frames.missing(steps.doubles, [1, 2]).tolist() == []


def test_encoders_of_a_short_video_share_what_they_take(steps: Recorded) -> None:
    frames = prepared(MAX_KEPT_INPUTS, together=(steps.doubles, steps.others))
    frames.encoded(steps.doubles)
    assert frames.encoded(steps.others, [5, 40]).tolist() == [6, 41]
    assert sum(map(len, steps.seen)) == MAX_KEPT_INPUTS
    assert frames.missing(steps.others, range(MAX_KEPT_INPUTS)).tolist() == sorted(
        set(range(MAX_KEPT_INPUTS)) - {5, 40}
    )


def test_what_encoders_of_a_long_video_take_is_not_kept_so_all_of_them_run(steps: Recorded) -> None:
    frames = prepared(MAX_KEPT_INPUTS + 1, together=(steps.doubles, steps.others))
    frames.encoded(steps.doubles)
    assert frames.encoded(steps.others, [5, 40]).tolist() == [6, 41]
    assert sum(map(len, steps.seen)) == MAX_KEPT_INPUTS + 1
    assert len(frames.missing(steps.numbers, range(MAX_KEPT_INPUTS + 1))) == MAX_KEPT_INPUTS + 1


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (64, [5])])
def test_frames_are_encoded_in_chunks_with_progress(steps: Recorded, chunk: int, sizes: list[int]) -> None:
    progress: list[tuple[int, int]] = []
    frames = prepared(5, chunk=chunk)
    for _ in range(2):
        frames.encoded(steps.doubles, progress=lambda done, total: progress.append((done, total)))
    assert [len(numbers) for numbers in steps.seen] == sizes
    assert progress == [*((int(done), 5) for done in np.cumsum(sizes)), (5, 5)]


def test_pictures_have_the_size_asked_for_and_the_order(clip: Path) -> None:
    frames = filmed(clip, [3, 8, 13])
    assert frames.pictures([2, 0, 2]).shape[:1] == (3,)
    small = frames.pictures([2, 0, 2], size=64)
    assert small.shape == (3, 64, 64, 3)
    assert shown_numbers(small) == [13, 3, 13]


def test_pictures_of_prepared_pixels_are_refused(steps: Recorded) -> None:
    with pytest.raises(VideoError, match="only prepared pixels are"):
        prepared(2).pictures([0])


def test_pictures_of_normalised_pixels_are_those_that_were_prepared() -> None:
    shown = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    pixels = EvalTransform()(FrameBatch(shown, np.arange(3), np.arange(3.0)))
    frames = FrameSource(np.arange(3), np.arange(3.0), pixels=pixels, normalization=(CLIP_MEAN, CLIP_STD))
    assert np.array_equal(frames.pictures([2, 0]), shown[[2, 0]])
    assert frames.pictures([1], size=4).shape == (1, 4, 4, 3)


def test_prepared_pixels_are_for_the_encoders_they_were_prepared_for_and_others_get_pictures(steps: Recorded) -> None:
    pixels = torch.zeros(3, 3, 8, 8)
    frames = FrameSource(
        np.arange(3), np.arange(3.0), pixels=pixels, normalization=(CLIP_MEAN, CLIP_STD), together=[steps.doubles]
    )
    assert frames.encoded(FrameEncoder("other", lambda given: torch.from_numpy(given.frames)), [0]).shape == (
        1,
        8,
        8,
        3,
    )
    assert frames.encoded(steps.doubles, [0]).tolist() == [0]


class Damaged:
    """A video of ten frames of which those from 6 on cannot be decoded."""

    info = VideoInfo("damaged.mp4", num_frames=10, fps=25.0, duration_s=0.4, width=64, height=64)
    frame_times_s = np.arange(10) / 25

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        for index in frame_idx.tolist():
            if index > 5:
                self.warnings.append("frames are damaged")
            yield min(index, 5), numbered_picture(min(index, 5), width=64, height=64)

    def close(self) -> None:
        pass


def test_a_damaged_frame_is_replaced_when_it_is_decoded_and_said(steps: Recorded) -> None:
    frames = FrameSource(np.array([2, 8]), np.array([2, 8]) / 25, open_video=lambda: VideoReader(Damaged()))
    assert (frames.frame_idx.tolist(), frames.warnings) == ([2, 8], ())
    assert frames.encoded(steps.numbers).tolist() == [2, 5]
    assert frames.frame_idx.tolist() == [2, 5]
    assert frames.times_s.tolist() == [2 / 25, 5 / 25]
    assert frames.warnings == ("frames are damaged",)


def test_what_is_made_in_inference_mode_can_be_trained_on(steps: Recorded) -> None:
    frames = prepared(3)
    with torch.inference_mode():
        frames.encoded(steps.doubles, [0, 1])
    weight = torch.ones(3, requires_grad=True)
    (frames.encoded(steps.doubles) * weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 2, 4]


class Memory:
    """Keeps in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, torch.Tensor] = {}

    def read(self, encoder: FrameEncoder) -> torch.Tensor | None:
        return self.kept.get(encoder.name)

    def write(self, encoder: FrameEncoder, values: torch.Tensor) -> None:
        self.kept[encoder.name] = values


def test_what_a_memory_has_is_not_made_again(steps: Recorded) -> None:
    memory, pixels = Memory(), torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    for _ in range(2):
        frames = FrameSource(np.arange(4), np.arange(4.0), pixels=pixels, memory=memory)
        assert frames.encoded(steps.doubles, [3]).tolist() == [6]
        assert len(frames.missing(steps.numbers, range(4))) == 4
    assert steps.seen == [[0, 1, 2, 3]]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_tokens_made_later_are_those_made_at_once(own_model: SeViLA, exact_model: SeViLA, dtype: str) -> None:
    set_precision(own_model, dtype)
    pixels, positions = random_pixels(20), np.array([[3, 11], [11, 19]])
    with torch.no_grad():
        expected = exact_model.answerer(exact_model.features(pixels))
    frames, answerer = frames_of(pixels, own_model), own_model.encoder("answerer")
    frames.encoded(own_model.encoder("localizer"))
    # With "fp16" it is the vision tower alone that rounds so.
    rounded = torch.float16 if dtype == "fp16" else None
    with recorded(own_model.vision) as watched:
        assert_near_float64(frames.encoded(answerer, positions), expected[positions.ravel()], dtype=rounded)
        assert_near_float64(frames.encoded(answerer), expected, dtype=rounded)
    assert watched == []


def test_encoders_of_one_model_are_the_same_however_often_they_are_asked_for(
    own_model: SeViLA, exact_model: SeViLA
) -> None:
    assert own_model.encoder("localizer") == own_model.encoder("localizer")
    assert own_model.encoder("localizer") != own_model.encoder("answerer")
    assert own_model.encoder("localizer") != exact_model.encoder("localizer")


def test_time_within_another_part_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("lavis.models.frames.time.perf_counter", lambda: next(clock))
    timings = Timings()
    with timings.measure("answer_s"), timings.measure("watch_s"):
        pass
    assert (timings.answer_s, timings.watch_s) == (1.0 + 7.0, 2.0)


def test_views_of_a_source_share_what_is_made_and_count_what_each_asks_for(clip: Path, steps: Recorded) -> None:
    frames, paces = filmed(clip, [3, 10, 40, 41]), dict[FrameEncoder, float]()
    first, second = (FrameView(frames, paces=paces) for _ in range(2))
    assert first.encoded(steps.numbers, [1, 3]).tolist() == [10, 41]
    assert second.encoded(steps.numbers).tolist() == [3, 10, 40, 41]
    assert steps.seen == [[10, 41], [3, 40]]
    assert (first.was_decoded.tolist(), first.shared_s) == ([False, True, False, True], 0)
    assert second.was_decoded.all()
    # The second is charged for the two frames that it found made, at the pace of those that it made; and only once.
    assert second.shared_s == pytest.approx(2 * paces[steps.numbers])
    second.encoded(steps.numbers)
    assert second.shared_s == pytest.approx(2 * paces[steps.numbers])


def test_views_share_small_pictures(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, opened = filmed(clip, [3, 10, 40]), list[Any]()
    views = [FrameView(frames, paces={}) for _ in range(2)]
    expected = [frames.pictures([2, 0], size=size) for size in (8, 96)]
    stream = VideoReader.stream

    def noted(self: VideoReader, *given: Any, **how: Any) -> Iterator[FrameBatch]:
        opened.append(how)
        return stream(self, *given, **how)

    monkeypatch.setattr(VideoReader, "stream", noted)
    for view in views:
        np.testing.assert_array_equal(view.pictures([2, 0], size=8), expected[0])
        assert view.was_decoded.tolist() == [True, False, True]
    assert len(opened) == 1
    for view in views:
        np.testing.assert_array_equal(view.pictures([2, 0], size=96), expected[1])
    assert len(opened) == 3
