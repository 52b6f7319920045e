"""From an open video to the pixels of one sample: which frames, and how they are transformed; T frames a sample."""

import math
import random
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from lavis.common.types import Floats, FrameBatch, Integers, Span
from lavis.video import VideoReader
from lavis.video.base import random_indices, rate_indices, uniform_indices

# CLIP's training statistics, which BLIP-2's vision tower was trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Of random crops, as published: their share of the area, and width over height.
_CROP_AREA = (0.5, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_CROP_TRIES = 10

Channels = tuple[float, float, float]


class EvalTransform:
    """Scale to [0, 1] and normalise, without any randomness.

    Frames are already square when they come from a reader: resizing happens while decoding.
    """

    def __init__(self, *, mean: Channels = CLIP_MEAN, std: Channels = CLIP_STD) -> None:
        # Plain numbers: a tensor made here would follow the device a model is being built on.
        self._mean, self._std = mean, std

    def __call__(self, clip: FrameBatch) -> torch.Tensor:
        """Return float32 pixels [T, 3, H, W]."""
        return _normalised(_channels_first(clip), self._mean, self._std)


class TrainTransform:
    """Crop all frames of a clip to one random part, resize it to the frames' size, and normalise.

    The part covers half to all of the area at an aspect of 3:4 to 4:3, and is resized bicubically (published
    defaults). Where the cubic overshoots, values are clamped; the published code lets them wrap around.
    """

    def __init__(self, *, mean: Channels = CLIP_MEAN, std: Channels = CLIP_STD) -> None:
        self._mean, self._std = mean, std

    def __call__(self, clip: FrameBatch, *, generator: torch.Generator) -> torch.Tensor:
        """Return float32 pixels [T, 3, H, W]; the crop is drawn from `generator`."""
        frames = _channels_first(clip)
        height, width = frames.shape[2:]
        crop = random_crop(height, width, generator=generator)
        return _normalised(resized_crop(frames, crop, size=(height, width)), self._mean, self._std)


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def random_crop(height: int, width: int, *, generator: torch.Generator) -> Crop:
    """Draw a crop as torchvision's RandomResizedCrop does, number for number."""
    log_aspect = torch.log(torch.tensor(_CROP_ASPECT))
    for _ in range(_CROP_TRIES):
        area = height * width * torch.empty(1).uniform_(*_CROP_AREA, generator=generator).item()
        drawn = torch.empty(1).uniform_(log_aspect[0].item(), log_aspect[1].item(), generator=generator)
        aspect = torch.exp(drawn).item()
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(torch.randint(0, height - crop_height + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - crop_width + 1, (1,), generator=generator))
            return Crop(top, left, crop_height, crop_width)
    aspect = min(max(width / height, _CROP_ASPECT[0]), _CROP_ASPECT[1])
    crop_width, crop_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    return Crop((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)


def resized_crop(frames: torch.Tensor, crop: Crop, *, size: tuple[int, int]) -> torch.Tensor:
    """Crop float frames [T, 3, H, W] of 0 to 255 and resize them to whole values of 0 to 255, [T, 3, *size]."""
    part = frames[:, :, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    return interpolate(part, size=size, mode="bicubic", align_corners=False).clamp_(0, 255).floor_()


def aspect_crop(height: int, width: int, *, generator: torch.Generator) -> Crop:
    """Draw a crop of the picture's own aspect, of the published share of its area."""
    share = torch.empty(1).uniform_(*_CROP_AREA, generator=generator).item()
    crop_height, crop_width = (max(1, round(side * math.sqrt(share))) for side in (height, width))
    top = int(torch.randint(0, height - crop_height + 1, (1,), generator=generator))
    left = int(torch.randint(0, width - crop_width + 1, (1,), generator=generator))
    return Crop(top, left, crop_height, crop_width)


def pictures_within(clip: FrameBatch, *, max_side: int, crop: Crop | None = None) -> torch.Tensor:
    """Return pictures of the video's own aspect, uint8 [T, 3, H, W], made smaller where a side is longer than that.

    Args:
        crop: this part of each, resized bicubically to the size that the whole picture has.
    """
    height, width = clip.frames.shape[1:3]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if crop is None and size == (height, width):
        return torch.from_numpy(clip.frames).permute(0, 3, 1, 2).contiguous()
    part = crop or Crop(0, 0, height, width)
    pictures = torch.empty(len(clip.frames), 3, *size, dtype=torch.uint8)
    # One by one: as numbers of four bytes all frames of a large video would not fit.
    for picture, frame in zip(pictures, clip.frames, strict=True):
        shown = frame[part.top : part.top + part.height, part.left : part.left + part.width]
        pixels = torch.from_numpy(shown).permute(2, 0, 1)[None].float()
        resized = interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
        picture.copy_(resized[0].round_().clamp_(0, 255))
    return pictures


def _channels_first(clip: FrameBatch) -> torch.Tensor:
    return torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(torch.float32)


def _normalised(pixels: torch.Tensor, mean: Channels, std: Channels) -> torch.Tensor:
    means, stds = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (mean, std))
    return pixels.div_(255).sub_(means).div_(stds)


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of one video.

    Attributes:
        pixels: float32 [T, 3, H, W].
        times_s: float64 [T], in seconds from the video's start.
        frame_idx: int64 [T], indices into the source video.
    """

    pixels: torch.Tensor
    times_s: Floats
    frame_idx: Integers


class ClipProcessor(Protocol):
    """Reads T frames of a video; what `registry.processors` holds.

    Attributes:
        is_random: the same clip may give other pixels each time.
    """

    is_random: bool

    def __call__(self, video: VideoReader, *, clip: Span | None, rng: random.Random) -> Clip:
        """Read frames; all randomness comes from `rng`.

        Raises:
            VideoError: the video, or this part of it, cannot be read.
        """
        ...


class UniformClip:
    """The middle frame of each of T segments, or so many frames a second, without augmentation (evaluation).

    Args:
        num_frames: T; a video with fewer frames repeats some.
        sample_fps: in place of T; see `rate_indices`. Nothing is decoded then, since a long video gives many frames:
            pixels are [T, 3, 0, 0], and whoever looks at frames decodes them.
        image_size: side of the square pictures; None is for models that take pictures of the video's own aspect.
        max_side: of those: the longer side, at most, and pixels are uint8. None decodes none, and pixels are
            [T, 3, 0, 0].
        mean: channel means of the model's normalisation.
        std: channel deviations of the model's normalisation.
    """

    is_random = False

    def __init__(
        self,
        *,
        num_frames: int | None = None,
        sample_fps: float | None = None,
        image_size: int | None,
        max_side: int | None = None,
        mean: Channels = CLIP_MEAN,
        std: Channels = CLIP_STD,
    ) -> None:
        assert (num_frames is None) != (sample_fps is None), "one of the two"
        self._num_frames, self._sample_fps = num_frames, sample_fps
        self._image_size, self._max_side = (image_size, max_side) if sample_fps is None else (None, None)
        self._transform = EvalTransform(mean=mean, std=std)

    def __call__(self, video: VideoReader, *, clip: Span | None, rng: random.Random) -> Clip:
        """Read the frames; `rng` is not used."""
        del rng
        chosen = self._chosen(video, clip)
        if self._image_size is None and self._max_side is None:
            return Clip(torch.empty(len(chosen), 3, 0, 0), video.times_s(chosen), chosen)
        batch = video.read(chosen, size=self._image_size)
        if self._max_side is not None:
            return Clip(pictures_within(batch, max_side=self._max_side), batch.times_s, batch.frame_idx)
        return Clip(self._transform(batch), batch.times_s, batch.frame_idx)

    def _chosen(self, video: VideoReader, clip: Span | None) -> Integers:
        info = video.info
        if self._num_frames is not None:
            chosen = uniform_indices(self._num_frames, video_frames=info.num_frames, fps=info.fps, clip=clip)
            return stretched(chosen, self._num_frames)
        assert self._sample_fps is not None, "one of the two is given"
        times_s = video.times_s(np.arange(info.num_frames))
        duration_s = max(info.duration_s, float(times_s[-1]))
        return rate_indices(self._sample_fps, times_s=times_s, duration_s=duration_s, clip=clip)[0]


class RandomClip:
    """A random frame of each of T segments, all cropped alike at random (training); arguments as `UniformClip`'s.

    Pictures of the video's own aspect are cropped to it, too.
    """

    is_random = True

    def __init__(
        self,
        *,
        num_frames: int,
        image_size: int | None,
        max_side: int | None = None,
        mean: Channels = CLIP_MEAN,
        std: Channels = CLIP_STD,
    ) -> None:
        assert image_size is not None or max_side is not None, "random frames are there to be seen"
        self._num_frames, self._image_size, self._max_side = num_frames, image_size, max_side
        self._transform = TrainTransform(mean=mean, std=std)

    def __call__(self, video: VideoReader, *, clip: Span | None, rng: random.Random) -> Clip:
        """Read the frames."""
        info = video.info
        chosen = random_indices(self._num_frames, video_frames=info.num_frames, fps=info.fps, clip=clip, rng=rng)
        batch = video.read(stretched(chosen, self._num_frames), size=self._image_size)
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        if self._max_side is None:
            pixels = self._transform(batch, generator=generator)
        else:
            crop = aspect_crop(*batch.frames.shape[1:3], generator=generator)
            pixels = pictures_within(batch, max_side=self._max_side, crop=crop)
        return Clip(pixels, batch.times_s, batch.frame_idx)


def stretched(frame_idx: Integers, length: int) -> Integers:
    """Repeat indices evenly until there are `length` of them, so that samples of a batch are equally long."""
    return frame_idx[np.arange(length) * len(frame_idx) // length]
