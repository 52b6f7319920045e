"""Which frames of a video are looked at: pure arithmetic on indices.

A video, or a clip of it, is divided into as many equal segments as frames are wanted; `uniform_indices`
takes the middle of each, `random_indices` a random frame of each. Both equal the sampling that the published
results were made with (`load_video` of the SeViLA code): a time becomes a frame by `int(time * fps)`,
and where segments are shorter than a frame, frames are repeated.

`watched_indices` is for people's questions: it goes by the frames' own times, and returns each frame once.
"""

import math
import random
from itertools import pairwise

import numpy as np

from lavis.common.errors import ConfigError, VideoError
from lavis.common.types import Floats, Integers, Span

_ROUNDING_S = 1e-6  # of times computed from ticks


def uniform_indices(num_frames: int, *, video_frames: int, fps: float, clip: Span | None = None) -> Integers:
    """Return the middle frame of each of `num_frames` equal segments of the video or clip.

    A video with fewer frames than asked for gives `video_frames` indices. A clip that reaches beyond
    the video is shortened to it; one of zero length gives its one frame, as often as frames are wanted.

    Returns:
        Non-decreasing indices within the video, [min(num_frames, video_frames)].

    Raises:
        VideoError: the clip ends before it starts, has a time that is not a number, or lies outside the video.
        ConfigError: `num_frames` is less than one.
    """
    bounds = _segment_bounds(num_frames, video_frames=video_frames, fps=fps, clip=clip)
    return (bounds[:-1] + bounds[1:]) // 2


def random_indices(
    num_frames: int, *, video_frames: int, fps: float, rng: random.Random, clip: Span | None = None
) -> Integers:
    """Return a random frame of each segment; arguments, result and errors as for `uniform_indices`.

    Segments without a frame of their own give the frame they lie in and draw nothing from `rng`.
    """
    bounds = _segment_bounds(num_frames, video_frames=video_frames, fps=fps, clip=clip).tolist()
    return np.array([rng.choice(range(start, end)) if end > start else start for start, end in pairwise(bounds)])


def watched_indices(
    num_frames: int, *, times_s: Floats, duration_s: float, clip: Span | None
) -> tuple[Integers, Span | None]:
    """Return frames spread evenly over a video, or over what is on the screen during a clip; none is repeated.

    At a constant frame rate these are the frames of `uniform_indices`, wherever it repeats none. The frame that is on
    the screen when a clip ends is used only where the clip has fewer frames than wanted. Without a clip it is the whole
    video, sampled as by `uniform_indices`.

    Returns:
        Increasing indices, and the clip as far as it lies within the video.

    Raises:
        VideoError: the clip ends before it starts, has a time that is not a number, or lies outside the video.
        ConfigError: `num_frames` is less than one.
    """
    if clip is None:
        return uniform_indices(num_frames, video_frames=len(times_s), fps=1), None
    _check_times(clip)
    if clip.start_s >= duration_s or (clip.start_s < 0 and clip.end_s <= 0):
        raise _outside(clip, duration_s)
    within = Span(max(clip.start_s, 0.0), min(clip.end_s, duration_s))
    # The frame on the screen at a time was shown at or before it.
    ends = np.array([within.start_s, within.end_s]) + _ROUNDING_S
    first, end = (np.searchsorted(np.append(times_s, duration_s), ends, side="right") - 1).tolist()
    first = min(max(first, 0), len(times_s) - 1)
    if end - first < num_frames:
        end = max(int(np.searchsorted(times_s, within.end_s - _ROUNDING_S, side="left")), first + 1)
    bounds = _evenly(first, end, min(num_frames, end - first))
    return (bounds[:-1] + bounds[1:]) // 2, within


def _segment_bounds(num_frames: int, *, video_frames: int, fps: float, clip: Span | None) -> Integers:
    if video_frames < 1 or not (math.isfinite(fps) and fps > 0):
        raise VideoError(f"cannot sample a video of {video_frames} frames at {fps} frames per second")
    start, end = (0, video_frames) if clip is None else _clip_frames(clip, video_frames=video_frames, fps=fps)
    return _evenly(start, end, min(num_frames, video_frames))


def _evenly(start: int, end: int, num_segments: int) -> Integers:
    if num_segments < 1:
        raise ConfigError(f"cannot sample {num_segments} frames; ask for at least 1")
    return np.linspace(start, end, num=num_segments + 1).astype(np.int64)


def _clip_frames(clip: Span, *, video_frames: int, fps: float) -> tuple[int, int]:
    _check_times(clip)
    # Times may be infinite, so they are bounded before they become integers.
    start = int(min(max(clip.start_s * fps, -1.0), video_frames + 1.0))
    end = int(min(max(clip.end_s * fps, -1.0), video_frames + 1.0))
    # A start at the very end is the last frame: annotated times are rounded, often up.
    if start > video_frames or end < 0:
        raise _outside(clip, video_frames / fps)
    return min(max(start, 0), video_frames - 1), min(end, video_frames)


def _check_times(clip: Span) -> None:
    if math.isnan(clip.start_s) or math.isnan(clip.end_s):
        raise VideoError(f"the clip from {clip} has a time that is not a number")
    if clip.end_s < clip.start_s:
        raise VideoError(f"the clip from {clip} ends before it starts")


def _outside(clip: Span, duration_s: float) -> VideoError:
    return VideoError(f"the clip from {clip} lies outside the video, which lasts {duration_s:.2f} s")
