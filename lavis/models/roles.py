"""The two roles a video question-answering pipeline needs, whatever model fills them.

A Localizer scores frames for a question; an Answerer answers from chosen frames. Both work on
frame tokens that were made once per video. Pipelines, tasks and user interfaces know only this
file; what is peculiar to one model stays in its own folder.

T frames of one video, B questions about it, K keyframes, O options.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lavis.common.types import Floats, FrameBatch, Integers, Question, Unread

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FrameScores:
    """How well each frame suits each question.

    Attributes:
        scores: float64 [B, T]; higher is better (SeViLA: the logit of "yes"). Keyframes are chosen by it.
        margins: float64 [B, T]; above 0 the frame itself matches (SeViLA: "yes" minus "no"). Moments are
            found by it.
        unread: for each question, what of its prompt the model did not read.
    """

    scores: Floats
    margins: Floats
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class Reading:
    """What the Answerer read out of its frames for one question.

    Attributes:
        index: the chosen option, or None for an open answer.
        text: the chosen option's text, or the generated answer.
        option_scores: float64 [O], the logits of the option letters; the mean over frames where
            frames are read one at a time; empty for an open answer.
        frame_choices: int64 [K], each frame's own choice where frames are read one at a time.
        unread: what of the prompt the model did not read.
    """

    index: int | None
    text: str
    option_scores: Floats
    frame_choices: Integers
    unread: Unread = field(default_factory=Unread)


class Localizer(Protocol):
    """Scores the frames of one video for several questions."""

    def score(
        self, tokens: Any, questions: Sequence[Question], *, where: npt.NDArray[np.bool_] | None = None
    ) -> FrameScores:
        """Score all T frames for each of B questions, or only those where `where` [B, T] is true; the rest are NaN.

        Raises:
            NotFiniteError: a score is no number; the message names where that began.
        """
        ...


class Answerer(Protocol):
    """Answers several questions about one video, each from its own frames."""

    def answer(self, tokens: Any, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        """Read frames at `positions` [B, K] (in time order) and answer each of B questions.

        Raises:
            NotFiniteError: a score is no number; the message names where that began.
        """
        ...


class VideoModel(Protocol):
    """A model that watches frames once and then fills both roles."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square frames that `watch_frames` takes."""
        ...

    @property
    def caveats(self) -> tuple[str, ...]:
        """What goes with every answer, such as that the weights are untrained."""
        ...

    def watch_frames(self, clip: FrameBatch, *, num_frames: int) -> Any:
        """Turn a chunk of a video's `num_frames` frames into tokens; those of all chunks are joined by `join_tokens`.

        Tokens may hold what is left to do for frames that are read, where all frames of the video are few.
        """
        ...

    def join_tokens(self, chunks: Sequence[Any]) -> Any:
        """Join the tokens of consecutive chunks of one video."""
        ...

    def watching_key(self) -> str:
        """Return a digest of everything that tokens depend on beside the frames."""
        ...

    def tokens_to_tensors(self, tokens: Any) -> "dict[str, torch.Tensor]":
        """Return the tokens of all frames as named tensors, to be kept; the inverse of `tokens_from_tensors`."""
        ...

    def tokens_from_tensors(self, tensors: "Mapping[str, torch.Tensor]", *, num_frames: int) -> Any:
        """Return kept tokens of so many frames, on the model's device.

        Raises:
            KeyError, ValueError: these are no tokens of this model.
        """
        ...

    def as_localizer(self, *, prompt: str) -> Localizer:
        """Return the role that scores frames, asking in the words of a prompt class by name."""
        ...

    def as_answerer(self, *, prompt: str, reader: str) -> Answerer:
        """Return the role that answers, with a frame reader by name ("joint", "per_frame")."""
        ...
