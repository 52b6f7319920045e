"""Where scores that are not finite began, so that nobody takes what was chosen by them for an answer."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy.typing as npt
import torch

from lavis.common.errors import BrokenModelError, NotFiniteError
from lavis.common.types import Question
from lavis.models.frames import FrameSource

if TYPE_CHECKING:
    from lavis.models.sevila.model import SeViLA


def check_finite(finite: npt.ArrayLike, question: Question, *, model: SeViLA, frames: FrameSource) -> None:
    """Refuse what was said about a question unless it was computed from finite numbers only.

    Args:
        finite: whether each of them is.

    Raises:
        BrokenModelError: one is not, for the model itself holds no numbers; the message names where.
        NotFiniteError: one is not; the message names where that began.
    """
    if torch.as_tensor(finite).all():
        return
    said = f"question {question.id or question.text!r:.80} has scores that are not finite; they began in"
    if broken := _broken_part(model):
        raise BrokenModelError(f"{said} {broken}")
    raise NotFiniteError(f"{said} {_outgrown_step(model, frames)}; try another dtype")


def _broken_part(model: SeViLA) -> str | None:
    config = model.config
    for name, value in (("image_mean", config.image_mean), ("image_std", config.image_std)):
        if not all(map(math.isfinite, value)) or (name == "image_std" and 0 in value):
            return f"the model's {name}, {tuple(value)}; mend its config.json"
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        if type(weight.detach()) is torch.Tensor and not weight.isfinite().all():  # quantised ones are of other types
            return f"the weights of {name}; fetch or save them again"
    return None


def _outgrown_step(model: SeViLA, frames: FrameSource) -> str:
    for encoder in model.encoders:
        made = frames.encoded(encoder)
        if not made.isfinite().all():
            return f"the {encoder.name.title()}'s tokens of the frames, computed in {made.dtype}"
    return f"the language model, computed in {model.language.dtype}"
