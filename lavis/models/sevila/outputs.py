"""What the SeViLA model returns.

Shapes: B questions, T frames per question, O options, V vocabulary.
"""

from dataclasses import dataclass

import torch

from lavis.common.types import Unread


@dataclass(frozen=True)
class FrameLogits:
    """The Localizer's logits of "yes" and "no" for each frame, [B, T] each."""

    yes: torch.Tensor
    no: torch.Tensor
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class OptionLogits:
    """The Answerer's logits of the option letters, [rows, O].

    Attributes:
        first_token: [rows], the token before the letter; `option_id` with trained weights.
        unread: for each question, what of its prompt the model did not read.
    """

    logits: torch.Tensor
    first_token: torch.Tensor
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class OpenAnswers:
    """Generated texts, one per prompt, whether all its logits were finite, and what of it the model did not read."""

    texts: list[str]
    finite: list[bool]
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class TextLoss:
    """How well target texts are predicted.

    Attributes:
        loss: scalar, the mean cross-entropy over all target tokens of all rows.
        logits: [rows, L_target, V].
        labels: [rows, L_target], -100 where no loss is taken.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
