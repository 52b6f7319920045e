"""Scorers that need no model: what moves, what is annotated, and chance."""

from collections.abc import Sequence

import numpy as np
import torch

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import FrameBatch, Question
from lavis.models.base import FrameScores, Mask
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.selection.scorers.common import asked_positions, frame_scores, question_name


class Motion:
    """How much a frame differs from the one before it, whatever is asked: high where a scene begins.

    The mean difference of small pictures, from 0 to 1; nothing comes before the first frame, which gets 0.

    Args:
        size: side of the pictures in pixels.

    Raises:
        ConfigError: less than one pixel.
    """

    def __init__(self, *, size: int = 32) -> None:
        if size < 1:
            raise ConfigError(f"cannot compare pictures of {size} pixels; give a size of at least 1")
        self._encoder = FrameEncoder("small pictures", _small_pictures, size=size, takes_prepared=False)

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`."""
        asked = asked_positions(len(frames), where)
        later = asked[asked > 0]
        motion = np.zeros(len(frames))
        if len(later):
            now, before = (frames.encoded(self._encoder, places).cpu().short() for places in (later, later - 1))
            motion[later] = (now - before).abs().double().mean(dim=(1, 2, 3)) / 255
        return frame_scores(np.tile(motion, (len(questions), 1)), where)


def _small_pictures(batch: FrameBatch) -> torch.Tensor:
    return torch.from_numpy(batch.frames)


class InWindows:
    """1 for frames inside the annotated windows of a question, 0 for all others: what a perfect scorer would say."""

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Make sure that all questions have windows.

        Raises:
            QuestionError: one has none.
        """
        for question in questions:
            if not question.windows:
                raise QuestionError(f"question {question_name(question)} has no windows to score frames by")

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`.

        Raises:
            QuestionError: a question has no annotated windows.
        """
        self.check_questions(questions)
        rows = [inside_windows(frames.times_s, question.windows or ()) for question in questions]
        inside = np.stack(rows).astype(np.float64)
        return frame_scores(inside, where, margins=inside - 0.5)


class Noise:
    """Uniform random numbers from 0 to 1, as a control: a policy should be worth more with a scorer that looks.

    Args:
        seed: the same seed, question (its id, or its text if it has none) and number of frames give the same scores.
    """

    def __init__(self, *, seed: int = 0) -> None:
        if seed < 0:
            raise ConfigError(f"a seed is {seed}; give 0 or more")
        self._seed = seed

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`."""
        rows = [
            np.random.default_rng([self._seed, *(question.id or question.text).encode(errors="surrogatepass")])
            for question in questions
        ]
        return frame_scores(np.stack([row.random(len(frames)) for row in rows]), where)
