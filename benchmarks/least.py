"""The least work of what was asked, counted once for all ways to do it: precision changes none of it."""

from dataclasses import dataclass

import torch

from benchmarks.asking import Asked, Setting
from benchmarks.floor import Floor, least_work
from benchmarks.subjects import model_of, questions


@dataclass(frozen=True)
class LeastWork:
    """Operations of questions about a film.

    Attributes:
        asked: by number of questions, where no frame is read.
        watched: without any question.
        read: without any question, and one frame read.
    """

    asked: dict[int, Floor]
    watched: Floor
    read: Floor

    def floor(self, found: Asked) -> Floor:
        """Return the least work of these answers, where only frames that were scored had to be."""
        read = len({int(position) for answer in found.answers for position in answer.keyframes.positions})
        least = self.asked[len(found.answers)]
        return Floor(
            watch=least.watch + read * (self.read.watch - self.watched.watch),
            localize=least.localize * found.scored,
            answer=least.answer + read * (self.read.answer - self.watched.answer),
        )


class Counter:
    """Counts on a model as it was built: neither compiled code nor products of whole numbers can be looked into."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._model = model_of(setting.size, dtype="bf16", device=torch.device(setting.device))
        self._questions = questions(setting.num_questions, size=setting.size)

    def count(self) -> LeastWork:
        """Run a frame and a text of each length."""
        return LeastWork(
            asked={count: self._least(count, num_read=0) for count in (1, len(self._questions))},
            watched=self._least(0, num_read=0),
            read=self._least(0, num_read=1),
        )

    def _least(self, count: int, *, num_read: int) -> Floor:
        return least_work(
            self._model,
            self._questions[:count],
            num_frames=self._setting.num_frames,
            num_keyframes=self._setting.num_keyframes,
            num_read=num_read,
        )
