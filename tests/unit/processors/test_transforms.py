import numpy as np
import pytest
import torch

from lavis.common.types import FrameBatch
from lavis.processors.transforms import CLIP_MEAN, CLIP_STD, EvalTransform


def clip_of(frames: np.ndarray) -> FrameBatch:
    return FrameBatch(frames, np.arange(len(frames)), np.arange(len(frames)) / 2)


def test_pixels_are_scaled_to_one_and_normalised_channel_by_channel() -> None:
    frames = np.zeros((2, 4, 6, 3), np.uint8)
    frames[0, 1, 2] = (255, 51, 0)
    pixels = EvalTransform()(clip_of(frames))
    assert pixels.shape == (2, 3, 4, 6)
    assert pixels.dtype == torch.float32
    expected = [(value - mean) / std for value, mean, std in zip((1.0, 0.2, 0.0), CLIP_MEAN, CLIP_STD, strict=True)]
    assert pixels[0, :, 1, 2].tolist() == pytest.approx(expected, abs=1e-6)
    black = [-mean / std for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)]
    assert pixels[1, :, 0, 0].tolist() == pytest.approx(black, abs=1e-6)


def test_statistics_are_those_that_the_vision_tower_was_trained_with() -> None:
    assert CLIP_MEAN == (0.48145466, 0.4578275, 0.40821073)
    assert CLIP_STD == (0.26862954, 0.26130258, 0.27577711)


def test_other_statistics_can_be_given() -> None:
    pixels = EvalTransform(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))(clip_of(np.full((1, 1, 1, 3), 255, np.uint8)))
    assert pixels.flatten().tolist() == [1.0, 1.0, 0.0]


def test_frames_themselves_stay_as_they_are_and_give_the_same_pixels_again() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    before = frames.copy()
    transform = EvalTransform()
    first, second = transform(clip_of(frames)), transform(clip_of(frames))
    np.testing.assert_array_equal(frames, before)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_each_grey_level_is_kept_apart_and_in_order() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    pixels = EvalTransform()(clip_of(levels))
    assert (pixels[0, 1].flatten().diff() > 0).all()


def test_a_transform_made_for_the_meta_device_works_on_real_frames() -> None:
    with torch.device("meta"):
        transform = EvalTransform()
    assert transform(clip_of(np.zeros((1, 2, 2, 3), np.uint8))).device.type == "cpu"
