"""The random crop of training equals the published one, but for values that wrapped around there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lavis.common.types import FrameBatch
from lavis.processors.transforms import (
    CLIP_MEAN,
    CLIP_STD,
    Crop,
    EvalTransform,
    TrainTransform,
    random_crop,
    resized_crop,
)

GOLDEN = load_file(Path(__file__).parent / "golden" / "train_crops.safetensors")
CROPS = [Crop(0, 0, 32, 32), Crop(3, 5, 20, 24), Crop(2, 1, 28, 23)]


def golden(crop: Crop, what: str) -> torch.Tensor:
    """Frames first: [T, 3, H, W]."""
    return GOLDEN[f"crop_{crop.top}_{crop.left}_{crop.height}_{crop.width}.{what}"].transpose(0, 1)


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_resized_crop_equals_the_published_one_up_to_clamping(crop: Crop) -> None:
    mine = resized_crop(GOLDEN["clip_in"].transpose(0, 1), crop, size=(28, 28))
    exact = golden(crop, "resized_float")
    # What lies on a whole number falls on either side of it, as the processor rounds.
    clear = (exact - exact.round()).abs() > 1e-3
    assert clear.float().mean() > 0.9
    kept = exact.clamp(0, 255)
    assert torch.equal(mine[clear], kept[clear].trunc())  # whole values, towards zero
    assert (mine - kept).abs().max() <= 1 + 1e-3
    wrapped = (exact <= -1) | (exact >= 256)
    assert wrapped.sum() > 500
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    difference = ((mine / 255 - mean) / std - golden(crop, "out")).abs()
    assert (difference[clear & ~wrapped] <= 1e-5).all()
    assert (difference[wrapped] > 1).all()


def test_crop_is_drawn_as_published() -> None:
    assert random_crop(56, 56, generator=torch.Generator().manual_seed(0)) == Crop(5, 0, 45, 52)


def test_crops_stay_inside_and_in_range() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(500):
        crop = random_crop(40, 60, generator=generator)
        assert 0 <= crop.top <= 40 - crop.height
        assert 0 <= crop.left <= 60 - crop.width
        assert 0.45 <= crop.height * crop.width / 2400 <= 1
        assert 0.7 <= crop.width / crop.height <= 1.4


def test_a_crop_that_cannot_be_found_is_central() -> None:
    crop = random_crop(10, 1000, generator=torch.Generator().manual_seed(0))
    assert crop == Crop(0, 493, 10, 13)


def test_all_frames_of_a_clip_are_cut_alike() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8).repeat(3, 0)
    clip = FrameBatch(frames, np.arange(3), np.arange(3) / 10)
    pixels = TrainTransform()(clip, generator=torch.Generator().manual_seed(0))
    assert pixels.shape == (3, 3, 32, 32)
    assert torch.equal(pixels[0], pixels[2])
    assert not torch.allclose(pixels, EvalTransform()(clip))
