"""What a frozen role says about frames: asked online each time, or cached from epoch to epoch.

A teacher's prediction is one number for a question and a frame: the option that the Answerer chooses on the frame
alone, or the score that the Localizer gives it. A frozen role says the same in every epoch of a run.

Shapes: B questions, T frames each, N frames that are asked about.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lavis.common.distributed import World
from lavis.common.types import Floats, Integers, Question
from lavis.datasets.dataset import ClipBatch
from lavis.models.frame_cache import FrameCache, entry_key
from lavis.models.frames import FrameEncoder

logger = logging.getLogger(__name__)

# Gives the predictions [N] on the frames that a mask [B, T] marks, in its order.
Ask = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Predictions:
    """Predictions on all frames of a batch.

    Attributes:
        values: float64 [B, T], on the CPU.
        metrics: what there is to log about them.
    """

    values: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class OnlineTeacher:
    """Asks about every frame every time.

    Attributes:
        keeps: whether predictions are kept.
    """

    keeps = False

    def predict(self, batch: ClipBatch, ask: Ask) -> Predictions:
        """Return the predictions on all frames of a batch; those that are not known are asked for.

        Where predictions are kept, the metric "reused" is the share of frames whose prediction was known.
        """
        rows = list(zip(batch.questions, batch.frame_idx.numpy(), strict=True))
        values = np.stack([self.known(question, row) for question, row in rows])
        unknown = np.isnan(values)
        if unknown.any():
            values[unknown] = ask(torch.from_numpy(unknown)).cpu().double().numpy()
            for (question, row), found, is_new in zip(rows, values, unknown, strict=True):
                self.add(question, row[is_new], found[is_new])
        return Predictions(torch.from_numpy(values), {"reused": torch.tensor(1 - unknown.mean())} if self.keeps else {})

    def known(self, question: Question, frame_idx: Integers) -> Floats:
        """Return the predictions on frames [T], NaN where there is none."""
        del question
        return np.full(len(frame_idx), np.nan)

    def add(self, question: Question, frame_idx: Integers, values: Floats) -> None:
        """Keep predictions on frames."""

    def share(self, world: World) -> None:
        """Let every process know what all found out; all call this at the same step of a run."""

    def state_dict(self, world: World) -> dict[str, Any]:
        """Return what a resumed run needs; every process must call this."""
        del world
        return {}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Load what `state_dict` returned."""


Teacher = OnlineTeacher
"""Where predictions come from; every teacher is asked as `OnlineTeacher` is."""


class CachedTeacher(OnlineTeacher):
    """Asks about a frame once; what one epoch finds out, the next ones use.

    Where frames are cropped at random, a frame keeps the prediction on the crop it was first seen in.

    A new prediction is not used before it is shared, at the end of an epoch. So a run that was stopped and resumed
    knows at each step what an undisturbed one knows: a prediction that is made in another batch could differ in the
    last bit of a logit, and with it, rarely, the choice.

    Args:
        origin: names everything that predictions depend on beside question and frame; a state of another origin is not
            loaded.
    """

    keeps = True

    def __init__(self, *, origin: str) -> None:
        self._origin = origin
        self._known: dict[str, _Frames] = {}
        self._new: dict[str, _Frames] = {}

    def known(self, question: Question, frame_idx: Integers) -> Floats:
        """Return the predictions on frames [T], NaN where there is none."""
        return _looked_up(self._known.get(question_key(question)), frame_idx)

    def add(self, question: Question, frame_idx: Integers, values: Floats) -> None:
        """Keep predictions on frames, to be used once they are shared."""
        _add(self._new, [(question_key(question), _Frames(frame_idx, values))])

    def share(self, world: World) -> None:
        """Add what all processes found out, in the order of their ranks."""
        for found in world.gather(self._new):
            _add(self._known, found.items())
        self._new = {}

    def state_dict(self, world: World) -> dict[str, Any]:
        """Return what is known, and what each process has found out since it was shared."""
        new = world.gather(_packed(self._new))
        return {"origin": self._origin, "known": _packed(self._known), "new": new}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Load what `state_dict` returned; with another number of processes, everybody loads what is new."""
        if state.get("origin") != self._origin:
            if state:
                logger.warning(
                    "the checkpoint's verdicts are of other weights or settings: the frozen role is asked anew"
                )
            return
        self._known, self._new = dict(_unpacked(state["known"])), {}
        news = state["new"]
        for new in [news[world.rank]] if len(news) == world.size else news:
            _add(self._new, _unpacked(new))


class ClipMemory:
    """Keeps on disk what a frozen Localizer reads of clips: questions about a clip, later epochs and runs find it.

    A clip is known by its very pixels, so it must be sampled without randomness to be found. It is watched in calls of
    its own: what it reads, and what is trained on that, do not depend on whether it was found.

    Args:
        origin: names everything that it depends on beside the pixels.
    """

    def __init__(self, cache: FrameCache, *, origin: str) -> None:
        self._cache, self._origin = cache, origin

    def of(self, pixels: torch.Tensor) -> "_KeptClip":
        """Return the memory of one clip, [T, 3, H, W]."""
        digest = hashlib.sha256(pixels.cpu().contiguous().numpy().data).hexdigest()
        return _KeptClip(self._cache, entry_key(origin=self._origin, pixels=digest, shape=list(pixels.shape)), pixels)


class _KeptClip:
    def __init__(self, cache: FrameCache, key: str, pixels: torch.Tensor) -> None:
        self._cache, self._key, self._pixels = cache, key, pixels

    def read(self, encoder: FrameEncoder) -> torch.Tensor | None:
        """Return what an encoder made of all frames, or None."""
        kept = self._cache.read(self._key)
        return (
            kept[encoder.name].to(self._pixels.device) if kept is not None and kept.keys() == {encoder.name} else None
        )

    def write(self, encoder: FrameEncoder, values: torch.Tensor) -> None:
        """Keep what an encoder made of all frames."""
        self._cache.write(self._key, {encoder.name: values})


class _Frames(NamedTuple):
    """Predictions on frames of one video: int64 [N] indices into it, ascending, and float64 [N] values."""

    frame_idx: Integers
    values: npt.NDArray[np.float64]


def question_key(question: Question) -> str:
    """Return what tells a question from every other of a run, also where datasets that are mixed name them alike."""
    return hashlib.sha256(repr(question).encode(errors="surrogatepass")).hexdigest()


def _looked_up(known: _Frames | None, frame_idx: Integers) -> npt.NDArray[np.float64]:
    """Return the predictions on frames, NaN where there is none."""
    if known is None or not len(known.frame_idx):
        return np.full(len(frame_idx), np.nan)
    place = np.searchsorted(known.frame_idx, frame_idx).clip(max=len(known.frame_idx) - 1)
    return np.where(known.frame_idx[place] == frame_idx, known.values[place], np.nan)


def _add(to: dict[str, _Frames], found: Iterable[tuple[str, _Frames]]) -> None:
    """Add predictions; of several on one frame the first counts."""
    for key, frames in found:
        joined = [frames] if key not in to else [to[key], frames]
        frame_idx, places = np.unique(np.concatenate([part.frame_idx for part in joined]), return_index=True)
        to[key] = _Frames(frame_idx, np.concatenate([part.values for part in joined])[places])


def _packed(frames: Mapping[str, _Frames]) -> dict[str, Any]:
    """Return predictions as few tensors, which checkpoints can hold."""
    parts = list(frames.values())
    counts = torch.tensor([len(part.frame_idx) for part in parts], dtype=torch.int64)
    frame_idx = np.concatenate([np.empty(0, np.int64), *(part.frame_idx for part in parts)])
    values = np.concatenate([np.empty(0, np.float64), *(part.values for part in parts)])
    tensors = {"counts": counts, "frame_idx": torch.from_numpy(frame_idx), "values": torch.from_numpy(values)}
    return {"questions": list(frames), **tensors}


def _unpacked(packed: Mapping[str, Any]) -> Iterable[tuple[str, _Frames]]:
    counts = packed["counts"].tolist()
    rows = zip(packed["questions"], packed["frame_idx"].split(counts), packed["values"].split(counts), strict=True)
    return ((key, _Frames(frame_idx.numpy(), values.numpy())) for key, frame_idx, values in rows)
