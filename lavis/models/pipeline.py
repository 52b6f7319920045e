"""Watch a video once, then ask it as often as you like.

The pipeline knows the protocols of `lavis.models.base` and nothing of the model behind them.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lavis.common import defaults
from lavis.common.errors import ConfigError, QuestionError, counted, whole_number
from lavis.common.moments import find_moments
from lavis.common.times import ClipLike, parse_clip
from lavis.common.types import (
    Answer,
    Cost,
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
from lavis.models.base import Reading, Selection, VideoModel, model_name
from lavis.models.chain import (
    AUTO,
    Selector,
    SelectorSpec,
    build_selector,
    cost_of,
    reads_sizes,
    select_and_answer,
)
from lavis.models.fingerprint import video_digest
from lavis.models.frame_cache import FrameCache, Tensors, entry_key
from lavis.models.frames import FrameSource, Progress, Timings
from lavis.models.results import Origin
from lavis.processors.prompts import QuestionLike, as_question, as_questions, check_question
from lavis.video import VideoReader
from lavis.video.base import rate_indices, watched_indices
from lavis.video.given import GivenVideo, VideoLike, given_video

logger = logging.getLogger(__name__)

_ROUNDED_S = 0.01  # as durations are shown


@dataclass
class WatchedVideo:
    """A video whose frames the model has seen: further questions neither decode nor encode again.

    Attributes:
        given: the video itself, from which keyframe pictures can be read again.
        source: the sampled frames, and what the model has made of them.
        clip: the part of the video that was watched; None is all of it.
        clip_warnings: what was wrong with the clip.
        num_remembered: how many of the T frames came from a cache, as the model saw them before.
    """

    given: GivenVideo
    info: VideoInfo
    source: FrameSource
    model: VideoModel
    clip: Span | None = None
    clip_warnings: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)
    num_remembered: int = 0
    _told_s: float = field(default=0.0, init=False)

    def __repr__(self) -> str:
        seen = f"{self.num_seen} of {counted(len(self.source), 'frame')} seen"
        return f"WatchedVideo({self.given.name!r}, {self.info.duration_s:.4g} s, {seen})"

    @property
    def path(self) -> Path | None:
        """The file or the folder of frames; None of pictures in memory."""
        return self.given.path

    @property
    def frame_idx(self) -> Integers:
        """Indices of the sampled frames in the source: int64 [T]."""
        return self.source.frame_idx

    @property
    def times_s(self) -> Floats:
        """Their presentation times: float64 [T]."""
        return self.source.times_s

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong with the file, such as that it is cut, or with the clip."""
        return (*self.source.warnings, *self.clip_warnings)

    @property
    def num_seen(self) -> int:
        """How many of the T frames the model has seen so far."""
        if not self.model.encoders:
            return int(self.source.was_decoded.sum())
        missing = [len(self.source.missing(one, range(len(self.source)))) for one in self.model.encoders]
        return len(self.source) - min(missing)

    def ask(
        self,
        question: str | Question,
        options: Sequence[str] = (),
        *,
        num_keyframes: int | str | None = None,
        token_budget: int | None = None,
        selector: SelectorSpec = defaults.SELECTOR,
        reader: str = defaults.FRAME_READER,
        prompt: str = defaults.PROMPT,
    ) -> Answer:
        """Answer one question; see `ask_all`.

        Example:
            >>> video = lavis.load_model("sevila", "tiny").watch("clip.mp4")
            >>> video.ask("What is the man holding?", ["a cup", "a phone"]).text
        """
        if isinstance(question, Question):
            if options:
                raise QuestionError("the question brings its own options; leave out options=")
            asked = question
        else:
            asked = as_question({"text": question, "options": options})
        (answer,) = self.ask_all(
            [asked],
            num_keyframes=num_keyframes,
            token_budget=token_budget,
            selector=selector,
            reader=reader,
            prompt=prompt,
        )
        return answer

    def ask_all(
        self,
        questions: Sequence[QuestionLike],
        *,
        num_keyframes: int | str | None = None,
        token_budget: int | None = None,
        selector: SelectorSpec = defaults.SELECTOR,
        reader: str = defaults.FRAME_READER,
        prompt: str = defaults.PROMPT,
    ) -> list[Answer]:
        """Answer several questions about this video: choose keyframes for each, then read them.

        Args:
            questions: each a text, a `Question`, or a mapping such as {"text": ..., "options": [...]}.
            num_keyframes: K (published: 4); None is 4, or all frames of a shorter video. "auto" lets the selector's
                policy decide, up to the selector's own `k`, or up to what was published of it.
            token_budget: in place of a number, as many frames as this many tokens of the Answerer hold; the text around
                frames is not counted. With "auto" it is the most.
            selector: which frames are read; see `lavis.models.chain.SelectorSpec`.
            reader: how they are read: "joint" for all at once, "per_frame" for a vote.
            prompt: how questions are worded: a name in `registry.prompts`.

        Raises:
            QuestionError: an empty question, unusable options, or more keyframes than there are frames.
            ConfigError: an unknown selector, reader or prompt, a policy that cannot decide how many frames are read, or
                a budget beside a number of frames, that holds none, or of tokens that nobody can count.
            NotFiniteError: scores are no numbers, by which nothing can be chosen.
        """
        questions = as_questions(questions)
        if not questions:
            return []
        chooser = build_selector(selector, self.model, prompt=prompt)
        if num_keyframes == AUTO:
            chooser = replace(chooser, decides=True)
        elif isinstance(num_keyframes, str):
            raise ConfigError(f"cannot choose {num_keyframes!r} keyframes; give a number, or {AUTO}")
        elif num_keyframes is not None:
            chooser = replace(chooser, k=whole_number(num_keyframes, "num_keyframes"))
        if token_budget is not None and chooser.k is not None:
            raise ConfigError(f"give {counted(chooser.k, 'keyframe')} or a budget of {token_budget} tokens, not both")
        answerer = self.model.as_answerer(prompt=prompt, packing=reader)
        found = select_and_answer(
            self.source,
            questions,
            selector=chooser,
            answerer=answerer,
            k=self._keyframe_count(chooser),
            token_budget=token_budget,
            timings=self.timings,
        )
        cost = cost_of(self.source, found, answerer=answerer, seconds=self._newly_spent_s())
        is_sized = reads_sizes(answerer)
        return [
            self._answer(question, *one, cost=cost, is_sized=is_sized)
            for question, one in zip(questions, found, strict=True)
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
            found = self.model.as_scorer(prompt=prompt).score(self.source, [question])
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
        scored = int(np.isfinite(found.scores).sum())
        cost = Cost(self.source.newly_decoded(), scored, scorer_calls=1, seconds=self._newly_spent_s())
        caveats = self._caveats(found.unread[0])
        return Moments(query, placed, self.times_s, margins, caveats, self.clip, cost, self.frame_idx, self._origin())

    def frames(self, frame_idx: Integers, *, size: int | None = None) -> FrameBatch:
        """Read frames of the source again, to show them; `size` as in `VideoReader.read`."""
        with self.given.open() as video:
            return video.read(frame_idx, size=size)

    def _newly_spent_s(self) -> float:
        """Return seconds since this was called before, or since watching began."""
        new, self._told_s = self.timings.total_s - self._told_s, self.timings.total_s
        return new

    def _keyframe_count(self, chooser: Selector) -> int:
        available, wanted = len(self.source), chooser.k
        if wanted is None or (chooser.decides and wanted > available):
            return min(chooser.most if chooser.decides else defaults.NUM_KEYFRAMES, available)
        if not 1 <= wanted <= available:
            allowed = "1" if available == 1 else f"1 to {available}"
            raise QuestionError(
                f"cannot choose {counted(wanted, 'keyframe')} of {counted(available, 'frame')}; ask for {allowed}"
            )
        return wanted

    def _answer(
        self, question: Question, selection: Selection, reading: Reading, *, cost: Cost, is_sized: bool
    ) -> Answer:
        positions, scores = selection.positions, selection.scores
        keyframes = Keyframes(
            positions=positions,
            frame_idx=self.frame_idx[positions],
            times_s=self.times_s[positions],
            scores=scores[positions] if len(scores) else np.empty(0),
            all_times_s=self.times_s,
            all_scores=scores,
            sizes=selection.sizes if is_sized else np.empty(0),
            all_frame_idx=self.frame_idx,
        )
        return Answer(
            question=question,
            index=reading.index,
            text=reading.text,
            option_scores=reading.option_scores,
            keyframes=keyframes,
            frame_choices=reading.frame_choices,
            caveats=self._caveats(selection.unread | reading.unread),
            clip=self.clip,
            cost=cost,
            origin=self._origin(),
        )

    def _origin(self) -> Origin:
        parts = {part.removesuffix("_s"): seconds for part, seconds in asdict(self.timings).items()}
        return Origin(self.given, self.info, model_name(self.model), parts)

    def _caveats(self, unread: Unread) -> tuple[str, ...]:
        return (*self.model.caveats, *self.warnings, *unread.caveats)


def watch(
    model: VideoModel,
    video: VideoLike,
    *,
    num_frames: int | None = None,
    sample_fps: float | None = None,
    clip: ClipLike | None = None,
    reader: str = defaults.VIDEO_READER,
    fps: float | None = None,
    times_s: Sequence[float] | Floats | None = None,
    batch_size: int = 16,
    cache: FrameCache | None = None,
    lazy: bool = False,
    progress: Progress | None = None,
    timings: Timings | None = None,
) -> WatchedVideo:
    """Sample frames evenly, and let the model see each of them once.

    Decoding and seeing run chunk by chunk, so memory does not grow with the number of frames but for what is kept of
    them. What only the Answerer reads of a short video is made for the frames that it reads; a cache keeps everything.
    A model without encoders looks at pictures as it is asked: its frames are decoded then, and nothing is cached.

    Args:
        video: a path, an address (file, http or https; downloaded to a temporary file, which goes with the result),
            bytes, an open binary file, a folder of frames, or pictures in memory: a list of PIL pictures, an array or a
            tensor [T, H, W, 3] or [T, 3, H, W]; see `lavis.video.given.given_video`.
        num_frames: T (published: 32, also where neither this nor `sample_fps` is given); a video with fewer frames
            gives all it has.
        sample_fps: in place of a number, so many frames for each second of the video; see `rate_indices`.
        clip: only this part of the video: the frames that are on the screen during it, as (start, end) or
            "0:30-0:35". It may reach beyond the video, which a warning then says.
        reader: a name in `registry.video_readers`.
        fps: frames per second of a folder of frames, or of pictures in memory.
        times_s: of pictures in memory, in place of `fps`: the time of each.
        batch_size: frames per chunk.
        cache: where what the model saw is looked for, and kept; None looks and keeps nowhere.
        lazy: decode and see a frame only when a question needs it, which saves most of the work where a selector
            looks at few frames. What is wrong with a frame is then said when it is needed, and a cache is only looked
            in.
        progress: called with (frames seen, frames in all) after each chunk.
        timings: where time is noted; None starts from zero, on the clock.

    Raises:
        VideoError: the video cannot be read, or the clip lies outside of it.
        ConfigError: less than one frame, or per chunk, a rate that is none, both a number and a rate, what is no part
            of a video, or pictures without times.
    """
    if whole_number(batch_size, "batch_size") < 1:
        raise ConfigError(f"cannot watch {batch_size} frames per chunk; give a batch_size of at least 1")
    part_asked = None if clip is None else parse_clip(clip)
    timings = timings or Timings()
    given = given_video(video, reader=reader, fps=fps, times_s=times_s)
    with given.open() as reading:
        frame_idx, part = frames_to_watch(reading, num_frames=num_frames, sample_fps=sample_fps, clip=part_asked)
        opened = [reading]
        options: dict[str, Any] = {
            # While it is open, it need not be opened again.
            "open_video": lambda: opened.pop() if opened else given.open(),
            "together": model.encoders,
            "chunk": batch_size,
            "timings": timings,
        }
        found, frames = None, FrameSource(frame_idx, reading.times_s(frame_idx), **options)
        if not model.encoders:
            cache = None  # nothing would be kept
        if cache is not None:
            with timings.measure("watch_s"):
                memory = FrameMemory(cache, model)
                key = memory.key_of(given, frames=frame_idx.tolist(), reader=given.reader, fps=given.fps)
                found = memory.load(key, **options)
        num_remembered = 0
        if found is not None and len(found) == len(frames):
            frames, num_remembered = found, len(found)
            if progress:
                progress(len(frames), len(frames))
        elif not lazy and model.encoders:
            frames.encoded(model.encoders[0], progress=progress)
            if cache is not None:
                with timings.measure("watch_s"):
                    memory.keep(key, frames)
        opened.clear()
    return WatchedVideo(
        given=given,
        info=reading.info,
        source=frames,
        model=model,
        clip=part,
        clip_warnings=_shortened(part_asked, part),
        timings=timings,
        num_remembered=num_remembered,
    )


class FrameMemory:
    """Keeps on disk what a model saw."""

    def __init__(self, cache: FrameCache, model: VideoModel) -> None:
        self._cache, self._model, self._model_key = cache, model, model.watching_key()
        self.encoders = model.encoders

    def key(self, path: Path, **sampling: object) -> str:
        """Return the key of a video's bytes, seen by this model; `sampling` says which frames were read, and how.

        Raises:
            VideoError: the video cannot be read.
        """
        return entry_key(model=self._model_key, video=video_digest(path), **sampling)

    def key_of(self, given: GivenVideo, **sampling: object) -> str:
        """Return the key of a video as it was given; as `key`."""
        if given.pictures is None:
            assert given.path is not None, "a video has a path or pictures"
            return self.key(given.path, **sampling)
        return entry_key(model=self._model_key, video=given.pictures.digest(), **sampling)

    def load(self, key: str, **options: Any) -> FrameSource | None:
        """Return the frames that were seen, or None where there are none; options as for `FrameSource`."""
        kept = self._cache.read(key)
        if kept is None:
            return None
        try:
            return self._frames(kept, options)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            # Written with a right checksum, but not by `keep`.
            logger.warning("the frame cache's entry %s holds something else (%s); watching again", key, error)
            return None

    def keep(self, key: str, frames: FrameSource) -> None:
        """Keep what was seen; what no question has needed yet is made for it."""
        kept: Tensors = {
            **{encoder.name: frames.encoded(encoder) for encoder in self._model.encoders},
            "frame_idx": torch.from_numpy(frames.frame_idx),
            "times_s": torch.from_numpy(frames.times_s),
            "warnings": torch.tensor(list(json.dumps(frames.warnings).encode()), dtype=torch.uint8),
        }
        self._cache.write(key, kept)

    def _frames(self, kept: Tensors, options: Mapping[str, Any]) -> FrameSource:
        frame_idx, times_s = kept["frame_idx"].numpy(), kept["times_s"].numpy()
        if frame_idx.ndim != 1 or frame_idx.shape != times_s.shape or not np.isfinite(times_s).all():
            raise ValueError("frames and times do not go together")
        frames = FrameSource(frame_idx, times_s, **options)
        frames.warnings = tuple(map(str, json.loads(bytes(kept["warnings"].tolist()))))
        for encoder in self._model.encoders:
            made = kept[encoder.name]
            shape = (len(frames), *(encoder.shape or made.shape[1:]))
            if made.shape != shape or not made.is_floating_point():
                raise ValueError(f"{encoder.name} is not {list(shape)} numbers")
            frames.add(encoder, np.arange(len(frames)), made.to(self._model.device))
        return frames


def frames_to_watch(
    video: VideoReader, *, num_frames: int | None = None, sample_fps: float | None = None, clip: Span | None
) -> tuple[Integers, Span | None]:
    """Return which frames of an open video are watched, and what is there of the clip; arguments as for `watch`."""
    times_s = video.times_s(np.arange(video.info.num_frames))
    duration_s = max(video.info.duration_s, float(times_s[-1]))
    if num_frames is not None:
        whole_number(num_frames, "num_frames")
    if sample_fps is None:
        count = defaults.NUM_FRAMES if num_frames is None else num_frames
        return watched_indices(count, times_s=times_s, duration_s=duration_s, clip=clip)
    if num_frames is not None:
        raise ConfigError(
            f"cannot watch {counted(num_frames, 'frame')} and {counted(sample_fps, 'frame')} a second; "
            "give one of the two"
        )
    if isinstance(sample_fps, str):  # which a notebook may pass on from a form
        raise ConfigError(f"sample_fps is {sample_fps!r}; give a number above 0")
    return rate_indices(sample_fps, times_s=times_s, duration_s=duration_s, clip=clip)


def _shortened(asked: Span | None, watched: Span | None) -> tuple[str, ...]:
    """Say so where a clip reaches beyond the video, other than by rounding."""
    if asked is None or watched is None:
        return ()
    if max(watched.start_s - asked.start_s, asked.end_s - watched.end_s) < _ROUNDED_S:
        return ()
    return (f"the clip from {asked} reaches beyond the video and was shortened to {watched}",)
