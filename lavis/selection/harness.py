"""Chosen frames for the questions of another evaluation harness, which asks a model of its own.

What `integrations/` has in common, so that each of its parts only knows one harness. K chosen frames.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from lavis.common import defaults
from lavis.common.config import typed_spec
from lavis.common.errors import ConfigError, QuestionError, VideoError, counted, did_you_mean
from lavis.common.types import Integers, Question
from lavis.models.chain import build_selector, check_selector
from lavis.models.loading import load_model
from lavis.models.pipeline import WatchedVideo, watch
from lavis.processors.prompts import check_question
from lavis.selection.frames_file import ChosenFrames, read_frames
from lavis.video import VideoReader, nearest_positions, open_video

logger = logging.getLogger(__name__)

_BEYOND_S = 1.0  # published files count up to a second beyond a video's end


@dataclass(frozen=True)
class Fields:
    """Where a harness's rows hold what is asked; without `options` the question is asked alone."""

    id: str = "question_id"
    question: str = "question"
    options: str | None = None


@dataclass(frozen=True)
class Asked:
    """A question of a harness: its row, and its place there."""

    row: Mapping[str, Any]
    task: str
    doc_id: int
    split: str | None = None


class FrameChooser(Protocol):
    """Tells which frames a question is answered from."""

    def check(self, asked: Asked) -> None:
        """Raise what `choose` would, as far as that is known before a video is opened."""

    def choose(self, asked: Asked, video: Path) -> ChosenFrames:
        """Return the frames of a question about a video.

        Raises:
            UserError: there are none.
        """


class FromFile:
    """Frames of a file (`lavis.selection.frames_file`).

    Args:
        task: the name of the task in the file, where the harness calls it otherwise.

    Raises:
        ConfigError: the file cannot be read.
    """

    def __init__(self, path: str | Path, *, task: str | None = None, fields: Fields | None = None) -> None:
        self._file, self._task, self._id = read_frames(path), task, (fields or Fields()).id

    def check(self, asked: Asked) -> None:
        """Find the row; see `FramesFile.find` for errors."""
        self._found(asked)

    def choose(self, asked: Asked, video: Path) -> ChosenFrames:
        """Return the row, by the question's id, else by its place; see `FramesFile.find` for errors.

        Raises:
            QuestionError: it is found by its place, and of a video with another name.
        """
        found = self._found(asked)
        is_by_place = found.question_id is None or asked.row.get(self._id) is None
        if is_by_place and found.video is not None and Path(found.video).stem != video.stem:
            raise QuestionError(f"{found.name} is about {found.video} in {self._file.path}, and about {video} here")
        return found

    def _found(self, asked: Asked) -> ChosenFrames:
        question_id = asked.row.get(self._id)
        where = None if question_id is None else str(question_id)
        return self._file.find(task=self._task or asked.task, question_id=where, doc_id=asked.doc_id, split=asked.split)


class BySelector:
    """Frames that a selector chooses when a question is asked.

    Args:
        selector: a name, or a mapping as YAML (`lavis.models.chain.SelectorSpec`).
        model: whose Localizer scores where the selector names no scorer; see `load_model`.
        k: frames for each question; None is what the selector says, or 4, or all of a shorter video.
        num_frames: frames that are watched, of which K are chosen (published: 32).

    Raises:
        ConfigError: no such selector or model, or numbers that cannot be.
        CheckpointError: the model has no weights.
    """

    def __init__(
        self,
        selector: str,
        *,
        model: str = defaults.MODEL,
        k: int | None = None,
        num_frames: int = defaults.NUM_FRAMES,
        fields: Fields | None = None,
    ) -> None:
        self._spec = typed_spec(selector, place="selector")
        check_selector(self._spec)
        if num_frames < 1 or (k is not None and not 1 <= k <= num_frames):
            raise ConfigError(f"cannot choose {k} of {num_frames} frames; give a k of 1 to {num_frames}")
        self._k, self._num_frames, self._fields = k, num_frames, fields or Fields()
        self._model = load_model(defaults.ARCH, model)
        self._chooser = build_selector(self._spec, self._model, prompt=defaults.PROMPT)
        self._watched: tuple[Path, WatchedVideo] | None = None

    def check(self, asked: Asked) -> None:
        """Find the question in its row.

        Raises:
            QuestionError: the row has no such fields, or they hold no question.
        """
        self._question(asked)

    def choose(self, asked: Asked, video: Path) -> ChosenFrames:
        """Choose among frames of the video; that of the question before is still known.

        Raises:
            QuestionError: as for `check`.
            VideoError: the video cannot be read.
        """
        question = self._question(asked)
        if self._watched is None or self._watched[0] != video:
            self._watched = video, watch(self._model, video, num_frames=self._num_frames, lazy=True)
        seen = self._watched[1]
        wanted = self._k or self._chooser.k or defaults.NUM_KEYFRAMES
        [chosen] = self._chooser.select(seen.source, [question], k=min(wanted, len(seen.source)))
        return ChosenFrames(
            task=asked.task,
            split=asked.split,
            doc_id=asked.doc_id,
            num_frames=seen.info.num_frames,
            frame_idx=tuple(seen.frame_idx[chosen.positions].tolist()),
            times_s=tuple(seen.times_s[chosen.positions].tolist()),
            sizes=tuple(chosen.sizes.tolist()),
        )

    def _question(self, asked: Asked) -> Question:
        text, options = (
            self._value(asked, name) if name is not None else ()
            for name in (self._fields.question, self._fields.options)
        )
        question = Question(str(text), tuple(map(str, options)))
        check_question(question)
        return question

    @staticmethod
    def _value(asked: Asked, name: str) -> Any:
        if name not in asked.row:
            names = did_you_mean(name, map(str, asked.row))
            raise QuestionError(f"row {asked.doc_id} of {asked.task!r} has no field {name!r}; {names}")
        return asked.row[name]


def frame_chooser(
    *,
    frames: str | Path | None = None,
    task: str | None = None,
    selector: str | None = None,
    fields: Fields | None = None,
    **settings: Any,
) -> FrameChooser:
    """Build the way that one of `frames` and `selector` names; settings as for `BySelector`, None being its default.

    Raises:
        ConfigError: both or neither are given, or one that cannot be.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if (frames is None) == (selector is None):
        raise ConfigError("give one of frames (a file of chosen frames) and selector (a way to choose them)")
    if frames is not None and given:
        raise ConfigError(f"frames are read from {frames}, so there is no use for {', '.join(given)}; leave it out")
    if frames is not None:
        return FromFile(frames, task=task, fields=fields)
    assert selector is not None
    return BySelector(selector, fields=fields, **given)


def chosen_pictures(video: Path, chosen: ChosenFrames) -> list[Image.Image]:
    """Decode the chosen frames [K] at their own size, or the part of it that `sizes` says, in time order.

    Raises:
        VideoError: the video cannot be read, or the frames are of another one.
    """
    with open_video(video) as opened:
        pictures = [Image.fromarray(frame) for frame in opened.read(_frame_idx(opened, chosen)).frames]
        for warning in opened.warnings:
            logger.warning("%s: %s", video, warning)
    sizes = chosen.sizes or (1.0,) * len(pictures)
    return [_resized(picture, size) for picture, size in zip(pictures, sizes, strict=True)]


def _frame_idx(video: VideoReader, chosen: ChosenFrames) -> Integers:
    """Return indices [K] into a video: of the frames nearest in time, or as they stand where seconds are not known."""
    count, path = video.info.num_frames, video.info.path
    if chosen.times_s is None:
        if chosen.num_frames not in (None, count):
            raise VideoError(
                f"{path} has {counted(count, 'frame')}; those of {chosen.name} are of one with {chosen.num_frames}"
            )
        return np.array(chosen.frame_idx, dtype=np.int64)
    known, asked = video.times_s(np.arange(count)), np.array(chosen.times_s)
    end = max(video.info.duration_s, float(known[-1]))
    if asked.max() > end + _BEYOND_S:
        raise VideoError(f"{path} ends at {end:.2f} s; {chosen.name} has a frame at {asked.max():.2f} s")
    if asked.max() > end:
        logger.warning("%s: it ends at %.2f s, before frames of %s: its last one is shown", path, end, chosen.name)
    return nearest_positions(known, asked)


def _resized(picture: Image.Image, size: float) -> Image.Image:
    if size == 1:
        return picture
    width, height = (max(1, round(side * size)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
