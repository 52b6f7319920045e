"""What a frozen role says about frames: asked anew each time, or remembered from epoch to epoch.

A verdict is one number for a question and a frame: the option that the Answerer chooses on the frame alone, or the
score that the Localizer gives it. A role is frozen where it is asked so, and its verdict does not change during a run.

Shapes: B questions, T frames each, N frames that are asked about.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from lavis.common.distributed import World
from lavis.common.types import Integers, Question
from lavis.tasks.objectives.base import TrainingBatch

logger = logging.getLogger(__name__)

# Gives the verdicts [N] on the frames that a mask [B, T] marks, in its order.
Ask = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Found:
    """Verdicts on all frames of a batch.

    Attributes:
        values: [B, T], on the CPU.
        figures: what there is to log about them.
    """

    values: torch.Tensor
    figures: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Verdicts(Protocol):
    """Where verdicts come from."""

    def of(self, batch: TrainingBatch, ask: Ask) -> Found:
        """Return the verdicts on all frames of a batch, asking about some or all of them."""
        ...

    def share(self, world: World) -> None:
        """Let every process know what all found out; all call this at the same step of a run."""
        ...

    def state_dict(self, world: World) -> dict[str, Any]:
        """Return what a resumed run needs; every process must call this."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Take up what `state_dict` returned."""
        ...


class FreshVerdicts:
    """Asks about every frame every time."""

    def of(self, batch: TrainingBatch, ask: Ask) -> Found:
        """Ask about all frames."""
        every = torch.ones(batch.pixels.shape[:2], dtype=torch.bool)
        return Found(ask(every).cpu().double().view(every.shape))

    def share(self, world: World) -> None:
        """Do nothing: nothing is kept."""

    def state_dict(self, world: World) -> dict[str, Any]:
        """Return nothing."""
        del world
        return {}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Take nothing up."""


class RememberedVerdicts:
    """Asks about a frame once; what one epoch finds out, the next ones use.

    Where frames are cut at random, a frame keeps the verdict on the cut it was first seen in.

    What is new is not used before it is shared, at the end of an epoch. So a run that was stopped and goes on knows at
    each step what an undisturbed one knows: a verdict that is made in another batch could differ in the last bit of a
    logit, and with it, rarely, the choice.

    Args:
        origin: names everything that verdicts depend on beside question and frame; a state of another origin is not
            taken up.
    """

    def __init__(self, *, origin: str) -> None:
        self._origin = origin
        self._known: dict[str, _Frames] = {}
        self._new: dict[str, _Frames] = {}

    def of(self, batch: TrainingBatch, ask: Ask) -> Found:
        """Ask about the frames that are not known; "reused" is the share of those that are."""
        assert batch.frame_idx is not None, "frames must be told apart to be remembered"
        keys = [question_key(question) for question in batch.questions]
        frame_idx = batch.frame_idx.numpy()
        values = np.stack([_looked_up(self._known.get(key), row) for key, row in zip(keys, frame_idx, strict=True)])
        unknown = np.isnan(values)
        if unknown.any():
            values[unknown] = ask(torch.from_numpy(unknown)).cpu().double().numpy()
            for key, row, found, is_new in zip(keys, frame_idx, values, unknown, strict=True):
                _add(self._new, [(key, _Frames(row[is_new], found[is_new]))])
        return Found(torch.from_numpy(values), {"reused": torch.tensor(1 - unknown.mean())})

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
        """Take up what `state_dict` returned; with another number of processes, everybody takes what is new."""
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


class _Frames(NamedTuple):
    """Verdicts on frames of one video: int64 [N] indices into it, ascending, and float64 [N] values."""

    frame_idx: Integers
    values: npt.NDArray[np.float64]


def question_key(question: Question) -> str:
    """Return what tells a question from every other of a run, also where datasets that are mixed name them alike."""
    return hashlib.sha256(repr(question).encode(errors="surrogatepass")).hexdigest()


def _looked_up(known: _Frames | None, frame_idx: Integers) -> npt.NDArray[np.float64]:
    """Return the verdicts on frames, NaN where there is none."""
    if known is None or not len(known.frame_idx):
        return np.full(len(frame_idx), np.nan)
    place = np.searchsorted(known.frame_idx, frame_idx).clip(max=len(known.frame_idx) - 1)
    return np.where(known.frame_idx[place] == frame_idx, known.values[place], np.nan)


def _add(to: dict[str, _Frames], found: Iterable[tuple[str, _Frames]]) -> None:
    """Add verdicts; of several on one frame the first counts."""
    for key, frames in found:
        joined = [frames] if key not in to else [to[key], frames]
        frame_idx, places = np.unique(np.concatenate([part.frame_idx for part in joined]), return_index=True)
        to[key] = _Frames(frame_idx, np.concatenate([part.values for part in joined])[places])


def _packed(frames: Mapping[str, _Frames]) -> dict[str, Any]:
    """Return verdicts as few tensors, which checkpoints can hold."""
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
