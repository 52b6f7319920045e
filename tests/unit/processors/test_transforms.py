import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lavis.common.types import FrameBatch
from lavis.processors.transforms import (
    CLIP_MEAN,
    CLIP_STD,
    Crop,
    EvalTransform,
    RandomClip,
    TrainTransform,
    UniformClip,
    aspect_crop,
    pictures_within,
    random_crop,
    resized_crop,
    stretched,
)
from lavis.video import open_video
from tests.videos import write_video


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


def test_short_videos_repeat_frames(tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "short.mp4", num_frames=3)) as video:
        clip = UniformClip(num_frames=8, image_size=32)(video, clip=None, rng=random.Random(0))
    assert clip.times_s == pytest.approx(np.array([0, 0, 0, 1, 1, 1, 2, 2]) / 25)


def test_without_a_size_frames_are_chosen_as_ever_and_none_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(write_video(tmp_path / "clip.mp4", num_frames=12)) as video:
        decoded = UniformClip(num_frames=8, image_size=32)(video, clip=None, rng=random.Random(0))
        monkeypatch.setattr(video, "read", lambda *_, **__: pytest.fail("a frame was decoded"))
        clip = UniformClip(num_frames=8, image_size=None)(video, clip=None, rng=random.Random(0))
    assert clip.pixels.shape == (8, 3, 0, 0)
    np.testing.assert_array_equal(clip.frame_idx, decoded.frame_idx)
    np.testing.assert_array_equal(clip.times_s, decoded.times_s)


def test_pictures_of_the_videos_own_aspect_are_what_was_decoded(tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "clip.mp4", num_frames=12, width=48, height=32)) as video:
        clip = UniformClip(num_frames=3, image_size=None, max_side=48)(video, clip=None, rng=random.Random(0))
        smaller = UniformClip(num_frames=3, image_size=None, max_side=24)(video, clip=None, rng=random.Random(0))
        decoded = video.read(clip.frame_idx)
    assert clip.pixels.dtype == torch.uint8
    np.testing.assert_array_equal(clip.pixels.permute(0, 2, 3, 1), decoded.frames)
    assert smaller.pixels.shape == (3, 3, 16, 24)
    halves = [np.asarray(Image.fromarray(frame).resize((24, 16), Image.Resampling.BICUBIC)) for frame in decoded.frames]
    assert np.abs(smaller.pixels.permute(0, 2, 3, 1).numpy().astype(int) - np.stack(halves)).max() <= 1


def test_training_cuts_pictures_of_the_videos_own_aspect_to_it(tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "clip.mp4", num_frames=12, width=64, height=32)) as video:
        clip = RandomClip(num_frames=3, image_size=None, max_side=64)(video, clip=None, rng=random.Random(0))
        whole = torch.from_numpy(video.read(clip.frame_idx).frames).permute(0, 3, 1, 2)
    assert (clip.pixels.shape, clip.pixels.dtype) == ((3, 3, 32, 64), torch.uint8)
    assert not torch.equal(clip.pixels, whole)
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        crop = aspect_crop(360, 640, generator=generator)
        assert 0 <= crop.top <= 360 - crop.height
        assert 0 <= crop.left <= 640 - crop.width
        assert 0.49 <= crop.height * crop.width / (360 * 640) <= 1
        assert crop.width / crop.height == pytest.approx(16 / 9, rel=0.01)


def test_a_cut_picture_is_that_part_of_it() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 40, 3), dtype=np.uint8)
    clip = FrameBatch(frames, np.arange(2), np.arange(2) / 10)
    found = pictures_within(clip, max_side=20, crop=Crop(5, 10, 10, 20))
    np.testing.assert_array_equal(found.permute(0, 2, 3, 1), frames[:, 5:15, 10:30])


def test_stretching_keeps_what_is_long_enough() -> None:
    assert stretched(np.array([3, 5, 9]), 3).tolist() == [3, 5, 9]
    assert stretched(np.array([3, 5]), 5).tolist() == [3, 3, 3, 5, 5]
