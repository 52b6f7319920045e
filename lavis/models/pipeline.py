"""Watch a video once, then ask it as often as you like.

The pipeline knows the roles of `lavis.models.roles` and nothing of the model that fills them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common import defaults
from lavis.common.errors import ConfigError, QuestionError
from lavis.common.moments import find_moments
from lavis.common.naming import counted
from lavis.common.types import (
    Answer,
    Floats,
    FrameBatch,
    Integers,
    Keyframes,
    Moment,
    Moments,
    Question,
    Span,
    Unread,
    VideoInfo,
)
from lavis.models.frame_cache import FrameCache
from lavis.models.questions import check_question
from lavis.models.roles import Reading, VideoModel
from lavis.models.selectors import Selection, build_selector
from lavis.models.watching import FrameMemory, Progress, SeenFrames, Timings, see_frames
from lavis.video import VideoReader, open_video
from lavis.video.sampling import watched_indices

_ROUNDED_S = 0.01  # as durations are shown


@dataclass
class WatchedVideo:
    """A video whose frames the model has seen: further questions neither decode nor encode again.

    Attributes:
        path: the source, from which keyframe pictures can be read again.
        frame_idx: int64 [T], indices of the sampled frames in the source.
        times_s: float64 [T], their presentation times.
        fps: frames per second that a folder of frames was read at.
        clip: the part of the video that was watched; None is all of it.
        warnings: what was wrong with the file, such as that it is cut, or with the clip.
    """

    path: Path
    info: VideoInfo
    frame_idx: Integers
    times_s: Floats
    tokens: Any
    model: VideoModel
    reader_name: str = defaults.VIDEO_READER
    fps: float | None = None
    clip: Span | None = None
    warnings: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)

    def ask(
        self,
        question: str,
        options: Sequence[str] = (),
        *,
        num_keyframes: int | None = None,
        selector: str = defaults.SELECTOR,
        reader: str = defaults.FRAME_READER,
        prompt: str = defaults.PROMPT,
    ) -> Answer:
        """Answer one question; see `ask_all`.

        Example:
            >>> video = lavis.load_model("sevila", "tiny").watch("clip.mp4")
            >>> video.ask("What is the man holding?", ["a cup", "a phone"]).text
        """
        if isinstance(options, str):
            raise QuestionError(f"options are the text {options!r}; give a list of texts")
        asked = Question(text=question, options=tuple(options))
        return self.ask_all([asked], num_keyframes=num_keyframes, selector=selector, reader=reader, prompt=prompt)[0]

    def ask_all(
        self,
        questions: Sequence[Question],
        *,
        num_keyframes: int | None = None,
        selector: str = defaults.SELECTOR,
        reader: str = defaults.FRAME_READER,
        prompt: str = defaults.PROMPT,
    ) -> list[Answer]:
        """Answer several questions about this video: choose keyframes for each, then read them.

        Args:
            num_keyframes: K (published: 4); None is 4, or all frames of a shorter video.
            selector: which frames are read: a name in `registry.selectors`.
            reader: how they are read: "joint" for all at once, "per_frame" for a vote.
            prompt: how questions are worded: a name in `registry.prompts`.

        Raises:
            QuestionError: an empty question, unusable options, or more keyframes than there are frames.
            ConfigError: an unknown selector, reader or prompt.
            NotFiniteError: scores are no numbers, by which nothing can be chosen.
        """
        for question in questions:
            check_question(question)
        if not questions:
            return []
        count = self._keyframe_count(num_keyframes)
        chooser = build_selector(selector, lambda: self.model.as_localizer(prompt=prompt))
        answerer = self.model.as_answerer(prompt=prompt, reader=reader)
        with self.timings.measure("localize_s"):
            selection = chooser.select(self.tokens, self.times_s, questions, num_keyframes=count)
        readings: list[Reading | None] = [None] * len(questions)
        with self.timings.measure("answer_s"):
            for group in _groups_by_options(questions):
                positions = selection.positions[group]
                found = answerer.answer(self.tokens, positions, [questions[i] for i in group])
                for i, reading in zip(group, found, strict=True):
                    readings[i] = reading
        return [
            self._answer(question, reading, selection, row)
            for row, (question, reading) in enumerate(zip(questions, readings, strict=True))
            if reading is not None
        ]

    def find(
        self,
        query: str,
        *,
        threshold: float | None = defaults.THRESHOLD,
        max_gap_frames: int = defaults.MAX_GAP_FRAMES,
        min_length_s: float = defaults.MIN_LENGTH_S,
        max_moments: int | None = defaults.MAX_MOMENTS,
        prompt: str = defaults.MOMENT_PROMPT,
    ) -> Moments:
        """Find the parts of the video, or of the clip, that a sentence describes; parameters as in `find_moments`.

        A frame matches where the Localizer says "yes" rather than "no" (`threshold` 0).

        Raises:
            QuestionError: an empty query.
            ConfigError: a parameter that cannot be.
            NotFiniteError: scores are no numbers, by which nothing can be found.
        """
        question = Question(text=query)
        check_question(question)
        with self.timings.measure("localize_s"):
            found = self.model.as_localizer(prompt=prompt).score(self.tokens, [question])
        margins = found.margins[0]
        part = self.clip or Span(0.0, max(self.info.duration_s, float(self.times_s[-1])))
        moments = find_moments(
            self.times_s - part.start_s,
            margins,
            duration_s=part.end_s - part.start_s or 1 / self.info.fps,
            threshold=threshold,
            max_gap_frames=max_gap_frames,
            min_length_s=min_length_s,
            max_moments=max_moments,
        )
        placed = tuple(Moment(one.start_s + part.start_s, one.end_s + part.start_s, one.score) for one in moments)
        return Moments(query, placed, self.times_s, margins, self._caveats(found.unread[0]), self.clip)

    def frames(self, frame_idx: Integers, *, size: int | None = None) -> FrameBatch:
        """Read frames of the source again, to show them; `size` as in `VideoReader.read`."""
        with open_video(self.path, reader=self.reader_name, fps=self.fps) as video:
            return video.read(frame_idx, size=size)

    def _keyframe_count(self, wanted: int | None) -> int:
        available = len(self.times_s)
        if wanted is None:
            return min(defaults.NUM_KEYFRAMES, available)
        if not 1 <= wanted <= available:
            allowed = "1" if available == 1 else f"1 to {available}"
            raise QuestionError(
                f"cannot choose {counted(wanted, 'keyframe')} of {counted(available, 'frame')}; ask for {allowed}"
            )
        return wanted

    def _answer(self, question: Question, reading: Reading, selection: Selection, row: int) -> Answer:
        positions, scores = selection.positions[row], selection.scores[row]
        keyframes = Keyframes(
            positions=positions,
            frame_idx=self.frame_idx[positions],
            times_s=self.times_s[positions],
            scores=scores[positions] if len(scores) else np.empty(0),
            all_times_s=self.times_s,
            all_scores=scores,
        )
        return Answer(
            question=question,
            index=reading.index,
            text=reading.text,
            option_scores=reading.option_scores,
            keyframes=keyframes,
            frame_choices=reading.frame_choices,
            caveats=self._caveats(selection.unread[row] | reading.unread),
            clip=self.clip,
        )

    def _caveats(self, unread: Unread) -> tuple[str, ...]:
        return (*self.model.caveats, *self.warnings, *unread.caveats)


def watch(
    model: VideoModel,
    path: str | Path,
    *,
    num_frames: int = defaults.NUM_FRAMES,
    clip: Span | None = None,
    reader: str = defaults.VIDEO_READER,
    fps: float | None = None,
    batch_size: int = 16,
    cache: FrameCache | None = None,
    progress: Progress | None = None,
    timings: Timings | None = None,
) -> WatchedVideo:
    """Sample frames uniformly, and let the model see each of them once.

    Decoding and seeing run chunk by chunk, so memory does not grow with the number of frames but
    for their tokens. A model may put off, in a short video, what only frames that are read need; a cache keeps the
    tokens of all frames.

    Args:
        num_frames: T (published: 32); a video with fewer frames gives all it has.
        clip: only this part of the video: the frames that are on the screen during it. It may reach beyond the video,
            which a warning then says.
        reader: a name in `registry.video_readers`.
        fps: frames per second of a folder of frames.
        batch_size: frames per chunk.
        cache: where what the model saw is looked for, and kept; None looks and keeps nowhere.
        progress: called with (frames seen, frames in all) after each chunk.
        timings: where time is noted; None starts from zero, on the clock.

    Raises:
        VideoError: the video cannot be read, or the clip lies outside of it.
        ConfigError: less than one frame, or per chunk.
    """
    if batch_size < 1:
        raise ConfigError(f"cannot watch {batch_size} frames per chunk; give a batch_size of at least 1")
    timings = timings or Timings()
    with open_video(path, reader=reader, fps=fps) as video:
        frame_idx, part = frames_to_watch(video, num_frames=num_frames, clip=clip)
        look = partial(see_frames, model, video, frame_idx, batch_size=batch_size, timings=timings, progress=progress)
        if cache is None:
            seen = look()
        else:
            with timings.measure("watch_s"):
                memory = FrameMemory(cache, model)
                key = memory.key(Path(path), frames=frame_idx.tolist(), reader=reader, fps=fps)
            seen = _recall_or_look(memory, key, look, timings=timings, progress=progress)
    return WatchedVideo(
        path=Path(path),
        info=video.info,
        frame_idx=seen.frame_idx,
        times_s=seen.times_s,
        tokens=seen.tokens,
        model=model,
        reader_name=reader,
        fps=fps,
        clip=part,
        warnings=(*seen.warnings, *_shortened(clip, part)),
        timings=timings,
    )


def frames_to_watch(video: VideoReader, *, num_frames: int, clip: Span | None) -> tuple[Integers, Span | None]:
    """Return which frames of an open video are watched, and what is there of the clip; see `watched_indices`."""
    times_s = video.times_s(np.arange(video.info.num_frames))
    return watched_indices(
        num_frames, times_s=times_s, duration_s=max(video.info.duration_s, float(times_s[-1])), clip=clip
    )


def _shortened(asked: Span | None, watched: Span | None) -> tuple[str, ...]:
    """Say so where a clip reaches beyond the video, other than by rounding."""
    if asked is None or watched is None:
        return ()
    if max(watched.start_s - asked.start_s, asked.end_s - watched.end_s) < _ROUNDED_S:
        return ()
    return (f"the clip from {asked} reaches beyond the video and was shortened to {watched}",)


def _recall_or_look(
    memory: FrameMemory, key: str, look: Callable[[], SeenFrames], *, timings: Timings, progress: Progress | None
) -> SeenFrames:
    with timings.measure("watch_s"):
        recalled = memory.recall(key)
    if recalled is None:
        fresh = look()
        with timings.measure("watch_s"):
            return memory.keep(key, fresh)
    if progress:
        progress(len(recalled.frame_idx), len(recalled.frame_idx))
    return recalled


def _groups_by_options(questions: Sequence[Question]) -> list[list[int]]:
    """Split question positions into those with options and those without."""
    choosing = [i for i, question in enumerate(questions) if question.options]
    open_ended = [i for i, question in enumerate(questions) if not question.options]
    return [group for group in (choosing, open_ended) if group]
