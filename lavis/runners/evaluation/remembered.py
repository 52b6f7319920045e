"""Clips that an earlier evaluation has watched."""

from collections.abc import Mapping
from typing import Any

from lavis.common.errors import VideoError
from lavis.datasets.dataset import VideoQuestionDataset
from lavis.models.watching import FrameMemory, SeenFrames
from lavis.runners.evaluation.scoring import WatchedClip


class RememberedClips:
    """Clips of a dataset, by the index of a question about them.

    Args:
        sampling: how the dataset reads frames, as JSON values.
    """

    def __init__(self, memory: FrameMemory, dataset: VideoQuestionDataset, *, sampling: Mapping[str, Any]) -> None:
        self._memory, self._dataset, self._sampling = memory, dataset, dict(sampling)
        self._keys: dict[int, str] = {}

    def recall(self, index: int) -> WatchedClip | None:
        """Return a clip, or None where it was not watched before or its video cannot be read."""
        try:
            seen = self._memory.recall(self._key(index))
        except VideoError:  # reading it says why
            return None
        return WatchedClip(seen.tokens, seen.frame_idx, seen.times_s) if seen else None

    def keep(self, index: int, clip: WatchedClip) -> None:
        """Remember a clip that was just watched."""
        self._memory.keep(self._key(index), SeenFrames(clip.tokens, clip.frame_idx, clip.times_s, warnings=()))

    def _key(self, index: int) -> str:
        if index not in self._keys:
            clip = self._dataset.annotations[index].question.clip
            span = [clip.start_s, clip.end_s] if clip else None
            self._keys[index] = self._memory.key(self._dataset.find_video(index), clip=span, **self._sampling)
        return self._keys[index]
