"""Where scores that are not finite began, so that nobody takes what was chosen by them for an answer."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy.typing as npt
import torch

from lavis.common.errors import NotFiniteError
from lavis.common.types import Question
from lavis.models.sevila.tokens import FrameTokens, whole

if TYPE_CHECKING:
    from lavis.models.sevila.model import SeViLA


def check_finite(finite: npt.ArrayLike, question: Question, *, model: SeViLA, tokens: FrameTokens) -> None:
    """Refuse what was said about a question unless it was computed from finite numbers only.

    Args:
        finite: whether each of them is.

    Raises:
        NotFiniteError: one is not; the message names where that began.
    """
    if not torch.as_tensor(finite).all():
        raise NotFiniteError(
            f"question {question.id or question.text!r:.80} has scores that are not finite; "
            f"they began in {_origin(model, tokens)}"
        )


def _origin(model: SeViLA, tokens: FrameTokens) -> str:
    """Go along the computation, from what is given to what is made of it."""
    config = model.config
    for name, value in (("image_mean", config.image_mean), ("image_std", config.image_std)):
        if not all(map(math.isfinite, value)) or (name == "image_std" and 0 in value):
            return f"the model's {name}, {tuple(value)}; mend its config.json"
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        if type(weight.detach()) is torch.Tensor and not weight.isfinite().all():  # quantised ones are of other types
            return f"the weights of {name}; fetch or save them again"
    for role, made in (("Localizer", tokens.localizer), ("Answerer", whole(tokens.answerer))):
        if not made.isfinite().all():
            return f"the {role}'s tokens of the frames, computed in {made.dtype}; try another dtype"
    return f"the language model, computed in {model.language.dtype}; try another dtype"
