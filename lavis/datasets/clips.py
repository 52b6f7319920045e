"""From an open video to the pixels of one sample: which frames, and how they are transformed.

T frames of a sample.
"""

import random
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from lavis.common.types import Floats, Integers, Span
from lavis.processors.sampling import random_indices, uniform_indices
from lavis.processors.transforms import CLIP_MEAN, CLIP_STD, EvalTransform, TrainTransform
from lavis.video import VideoReader


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
    """The middle frame of each of T segments, without augmentation (evaluation).

    Args:
        num_frames: T; a video with fewer frames repeats some.
        image_size: side of the square pictures.
    """

    is_random = False

    def __init__(
        self,
        *,
        num_frames: int,
        image_size: int,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
    ) -> None:
        self._num_frames, self._image_size = num_frames, image_size
        self._transform = EvalTransform(mean=mean, std=std)

    def __call__(self, video: VideoReader, *, clip: Span | None, rng: random.Random) -> Clip:
        """Read the frames; `rng` is not used."""
        del rng
        info = video.info
        chosen = uniform_indices(self._num_frames, video_frames=info.num_frames, fps=info.fps, clip=clip)
        batch = video.read(stretched(chosen, self._num_frames), size=self._image_size)
        return Clip(self._transform(batch), batch.times_s, batch.frame_idx)


class RandomClip:
    """A random frame of each of T segments, all cut by one random crop (training).

    Args:
        num_frames: T; a video with fewer frames repeats some.
        image_size: side of the square pictures.
    """

    is_random = True

    def __init__(
        self,
        *,
        num_frames: int,
        image_size: int,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
    ) -> None:
        self._num_frames, self._image_size = num_frames, image_size
        self._transform = TrainTransform(mean=mean, std=std)

    def __call__(self, video: VideoReader, *, clip: Span | None, rng: random.Random) -> Clip:
        """Read the frames."""
        info = video.info
        chosen = random_indices(self._num_frames, video_frames=info.num_frames, fps=info.fps, clip=clip, rng=rng)
        batch = video.read(stretched(chosen, self._num_frames), size=self._image_size)
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        return Clip(self._transform(batch, generator=generator), batch.times_s, batch.frame_idx)


def stretched(frame_idx: Integers, length: int) -> Integers:
    """Repeat indices evenly until there are `length` of them, so that samples of a batch are equally long."""
    return frame_idx[np.arange(length) * len(frame_idx) // length]
