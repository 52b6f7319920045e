"""What the SeViLA model returns.

Shapes: N frames, B questions, T frames per question, Q query tokens, E language width, O options.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class FrameTokens:
    """What each role sees of N frames, [N, Q, E] each; independent of any question."""

    localizer: torch.Tensor
    answerer: torch.Tensor

    def __len__(self) -> int:
        return len(self.localizer)


@dataclass(frozen=True)
class FrameLogits:
    """The Localizer's logits of "yes" and "no" for each frame, [B, T] each."""

    yes: torch.Tensor
    no: torch.Tensor
    cut: tuple[bool, ...]


@dataclass(frozen=True)
class OptionLogits:
    """The Answerer's logits of the option letters, [rows, O].

    Attributes:
        first_token: [rows], the token before the letter; `option_id` with trained weights.
        cut: for each question, whether its prompt lost its end to the length limit.
    """

    logits: torch.Tensor
    first_token: torch.Tensor
    cut: tuple[bool, ...]


@dataclass(frozen=True)
class OpenAnswers:
    """Generated texts, one per prompt, and which prompts lost their end."""

    texts: list[str]
    cut: tuple[bool, ...]


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
