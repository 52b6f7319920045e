"""A model without weights, so that the page's parts are tested in milliseconds, and results to show."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavis.common.types import (
    Answer,
    Floats,
    FrameBatch,
    Integers,
    Keyframes,
    Moment,
    Moments,
    Question,
    Unread,
    VideoInfo,
)
from lavis.demo.files import VisitorFiles
from lavis.demo.jobs import Job
from lavis.demo.service import (
    AnswerRequest,
    AnswerResult,
    FindRequest,
    FindResult,
    PicturedAnswer,
    PicturedMoments,
    Service,
)
from lavis.demo.settings import Settings
from lavis.demo.videos import Example, Source, Sources
from lavis.models.base import FrameScores, Mask, Reading
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.models.pipeline import WatchedVideo, watch
from lavis.processors.prompts import Prompt
from tests.videos import write_video

CAVEAT = "the weights are a test's"


class BrightnessModel:
    """Scores a frame by its brightness; answers with the option of the brightest frame's position."""

    device = torch.device("cpu")
    caveats = (CAVEAT,)

    def __init__(self) -> None:
        self.num_watched = 0

    def watch(self, path: str | Path, **options: Any) -> WatchedVideo:
        return watch(self, path, **options)

    def watching_key(self) -> str:
        return "brightness"

    @property
    def encoders(self) -> tuple[FrameEncoder, ...]:
        return (FrameEncoder("brightness", self.look, size=16, shape=()),)

    def look(self, clip: FrameBatch) -> torch.Tensor:
        self.num_watched += len(clip)
        return torch.from_numpy(clip.frames.mean(axis=(1, 2, 3)))

    def as_scorer(self, *, prompt: str | Prompt) -> "BrightnessModel":
        return self

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> "BrightnessModel":
        return self

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        tokens = frames.encoded(self.encoders[0]).numpy()
        scores = np.tile(tokens, (len(questions), 1))
        return FrameScores(scores, scores - tokens.mean(), (Unread(),) * len(questions))

    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        tokens = frames.encoded(self.encoders[0]).numpy()
        return [self._read(tokens[row], question) for row, question in zip(positions, questions, strict=True)]

    def _read(self, tokens: Floats, question: Question) -> Reading:
        if not question.options:
            return Reading(None, "open", np.empty(0), np.empty(0, np.int64))
        index = int(tokens.argmax()) % len(question.options)
        scores = -np.abs(np.arange(len(question.options)) - index).astype(float)
        return Reading(index, question.options[index], scores, np.empty(0, np.int64))


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames at 25 frames per second."""
    return write_video(tmp_path_factory.mktemp("video") / "numbers.mp4", num_frames=100)


@pytest.fixture
def files(tmp_path: Path) -> VisitorFiles:
    return VisitorFiles(tmp_path / "served", keep_s=3600)


@pytest.fixture
def example(video: Path) -> Example:
    return Example(video, (Question("How bright?", ("dark", "light"), answer=1),), "data:,", 4.0)


@pytest.fixture
def sources(files: VisitorFiles, example: Example) -> Sources:
    return Sources(files, [example], settings=Settings(max_duration_s=10, max_upload_mb=1))


@pytest.fixture
def model() -> BrightnessModel:
    return BrightnessModel()


@pytest.fixture
def service(model: BrightnessModel, sources: Sources) -> Service:
    return Service(model, model_name="brightness", sources=sources, settings=Settings(max_frames=64, max_keyframes=20))


@pytest.fixture
def make_job() -> Callable[..., Job]:
    def make(visitor: str = "ada", steps: list[str] | None = None) -> Job:
        told = [] if steps is None else steps
        return Job(visitor, "::1", listener=lambda what, done, total: told.append(what), max_s=60)

    return make


def make_answer(*, text: str = "sea", options: tuple[str, ...] = ("sea", "sky")) -> Answer:
    times = np.array([1.0, 2.0, 3.0, 4.0])
    scores = np.array([0.5, 3.0, 2.0, -1.0])
    chosen = np.array([1, 2])
    frames = Keyframes(chosen, chosen * 10, times[chosen], scores[chosen], times, scores)
    index = options.index(text) if options else None
    option_scores = np.arange(len(options), 0, -1).astype(float)
    return Answer(Question("Where is it?", options), index, text, option_scores, frames)


@pytest.fixture
def answered(video: Path) -> AnswerResult:
    """An answer from two of four frames."""
    pictures = (b"first", b"second")
    return AnswerResult(
        chosen=PicturedAnswer(make_answer(), pictures),
        uniform=None,
        asked=AnswerRequest("Where is it?", ("sea", "sky")),
        source=Source(video, "numbers.mp4"),
        info=VideoInfo("numbers.mp4", 100, 25.0, 4.0, 96, 64),
        model_name="brightness",
        seconds={"decode": 0.5, "watch": 1.25, "localize": 0.25, "answer": 0.125},
        known=False,
        frame_idx=np.array([0, 10, 20, 30]),
        caveats=(),
    )


@pytest.fixture
def found(video: Path) -> FindResult:
    """Two moments."""
    moments = Moments(
        "a ring",
        (Moment(2.5, 3.5, 2.0), Moment(0.0, 1.5, 0.5)),
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.array([0.5, -1.0, 2.0, -3.0]),
    )
    return FindResult(
        searches=(PicturedMoments(moments, (b"first", b"second")),),
        asked=FindRequest(("a ring",)),
        source=Source(video, "numbers.mp4"),
        info=VideoInfo("numbers.mp4", 100, 25.0, 4.0, 96, 64),
        model_name="brightness",
        seconds={"decode": 0.5, "watch": 1.25, "localize": 0.25, "answer": 0.0},
        known=True,
        caveats=(),
    )
