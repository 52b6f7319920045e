"""What the page does, without the page: the very pipeline of the command line, with limits and steps to tell of.

Nothing in here knows of Gradio.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lavis.common import defaults
from lavis.common.errors import QuestionError
from lavis.common.naming import counted
from lavis.common.types import Answer, Integers, Moments, Question, VideoInfo
from lavis.demo.jobs import Job
from lavis.demo.problems import FieldError, shown_beside
from lavis.demo.settings import Settings
from lavis.demo.videos import Source, Sources, Watched, WatchedVideos
from lavis.export import answer_record, moments_record
from lavis.export.pictures import best_positions
from lavis.export.records import Record
from lavis.models.questions import check_question

Seconds = Mapping[str, float]


@dataclass(frozen=True)
class Asked:
    """A question as it stands on the page; without options the answer is open."""

    question: str
    options: tuple[str, ...] = ()
    num_frames: int = defaults.NUM_FRAMES
    num_keyframes: int = defaults.NUM_KEYFRAMES
    compare: bool = False


@dataclass(frozen=True)
class Sought:
    """A sentence to find moments for."""

    query: str
    num_frames: int = defaults.NUM_FRAMES
    max_moments: int | None = defaults.MAX_MOMENTS


@dataclass(frozen=True)
class Shown:
    """An answer with a picture (JPEG) of each of its keyframes."""

    answer: Answer
    pictures: tuple[bytes, ...]


@dataclass(frozen=True)
class Answered:
    """All that is shown of an answer.

    Attributes:
        uniform: the answer from uniform frames, where it was asked for.
        seconds: what each part took for this question alone; decode and watch are 0 where the video was known.
        known: whether the video had been watched before.
        frame_idx: int64 [T], the watched frames in the source.
        caveats: what to know of this answer, beside what is known of the model.
    """

    chosen: Shown
    uniform: Shown | None
    source: Source
    info: VideoInfo
    model_name: str
    seconds: Seconds
    known: bool
    frame_idx: Integers
    caveats: tuple[str, ...]

    @property
    def record(self) -> Record:
        """The record of `sevila answer --json`, with the video's name for its path."""
        return answer_record(self.chosen.answer, video=self.info, model=self.model_name, timings_s=self.seconds)


@dataclass(frozen=True)
class Found:
    """All that is shown of a search; `pictures` are of each moment's best frame."""

    moments: Moments
    pictures: tuple[bytes, ...]
    source: Source
    info: VideoInfo
    model_name: str
    seconds: Seconds
    known: bool
    caveats: tuple[str, ...]

    @property
    def record(self) -> Record:
        """The record of `sevila find --json`, with the video's name for its path."""
        return moments_record(self.moments, video=self.info, model=self.model_name, timings_s=self.seconds)


class Service:
    """Answers and finds for visitors.

    Args:
        model: a loaded model (`lavis.load_model`).
    """

    def __init__(self, model: Any, *, model_name: str, sources: Sources, settings: Settings) -> None:
        self._model = model
        self.model_name = model_name
        self.sources = sources
        self._settings = settings
        self.watched_videos = WatchedVideos(most=settings.max_watched, keep_s=settings.keep_s)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be known of the model's weights."""
        return tuple(self._model.caveats)

    def answer(self, source: Source, asked: Asked, job: Job) -> Answered:
        """Watch the video if it is new, and answer.

        Raises:
            FieldError: see `check`, and the pipeline's own.
            JobError: the job was cancelled or took too long.
        """
        self.check(asked)
        watched, known, before = self._watched(source, asked.num_frames, job)
        job.report("reading the question")
        count = asked.num_keyframes
        if self._has_default_keyframes(asked):
            count = min(count, len(watched.video.frame_idx))
        with shown_beside("keyframes"):
            chosen = watched.video.ask(asked.question, asked.options, num_keyframes=count)
        seconds = _since(before, watched)
        uniform = None
        if asked.compare:
            job.report("comparing with uniform frames")
            # Its time is no part of the answer's.
            uniform = watched.video.ask(asked.question, asked.options, num_keyframes=count, selector="uniform")
        job.report("reading the keyframes")
        with source.problems():
            return Answered(
                chosen=Shown(chosen, watched.pictures(chosen.keyframes.frame_idx)),
                uniform=Shown(uniform, watched.pictures(uniform.keyframes.frame_idx)) if uniform else None,
                source=source,
                info=source.shown(watched.video.info),
                model_name=self.model_name,
                seconds=seconds,
                known=known,
                frame_idx=watched.video.frame_idx,
                caveats=self._own(chosen.caveats),
            )

    def find(self, source: Source, sought: Sought, job: Job) -> Found:
        """Watch the video if it is new, and find moments.

        Raises:
            FieldError: see `check_query`, and the pipeline's own.
            JobError: the job was cancelled or took too long.
        """
        self.check_query(sought)
        watched, known, before = self._watched(source, sought.num_frames, job)
        job.report("comparing frames with the sentence")
        with shown_beside("query"):
            moments = watched.video.find(sought.query, max_moments=sought.max_moments or self._settings.max_moments)
        seconds = _since(before, watched)
        job.report("reading the best frames")
        with source.problems():
            return Found(
                moments=moments,
                pictures=watched.pictures(watched.video.frame_idx[best_positions(moments)]),
                source=source,
                info=source.shown(watched.video.info),
                model_name=self.model_name,
                seconds=seconds,
                known=known,
                caveats=self._own(moments.caveats),
            )

    def check(self, asked: Asked) -> None:
        """Refuse what cannot be asked before anything is opened.

        Raises:
            FieldError: which field, and what is wrong with it.
        """
        limits = self._settings
        self._check_text("question", asked.question)
        with shown_beside("options"):
            if len(asked.options) > limits.max_options:
                raise QuestionError(f"{len(asked.options)} options given; at most {limits.max_options} go")
            check_question(Question(text=asked.question, options=asked.options))
            for option in asked.options:
                _check_length(option, limits.max_option_chars)
        _check_count("frames", asked.num_frames, limits.max_frames)
        _check_count("keyframes", asked.num_keyframes, limits.max_keyframes)
        if asked.num_keyframes > asked.num_frames and not self._has_default_keyframes(asked):
            raise FieldError(
                "keyframes",
                f"Cannot read {asked.num_keyframes} keyframes of {counted(asked.num_frames, 'frame')}; "
                f"read at most {asked.num_frames}, or watch more frames.",
            )

    def check_query(self, sought: Sought) -> None:
        """Refuse what cannot be found before anything is opened; raises as `check`."""
        self._check_text("query", sought.query)
        _check_count("frames", sought.num_frames, self._settings.max_frames)
        if sought.max_moments is not None:
            _check_count("query", sought.max_moments, self._settings.max_moments)

    def _has_default_keyframes(self, asked: Asked) -> bool:
        """Whether the number is nobody's wish, so that a shorter video is read as a whole, as everywhere else."""
        return asked.num_keyframes == self._settings.num_keyframes

    def _own(self, caveats: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(caveat for caveat in caveats if caveat not in self.caveats)

    def _check_text(self, field: str, text: str) -> None:
        with shown_beside(field):
            check_question(Question(text=text))
            _check_length(text, self._settings.max_question_chars)

    def _watched(self, source: Source, num_frames: int, job: Job) -> tuple[Watched, bool, Seconds]:
        """Return the watched video, whether it had been watched before, and the seconds spent on it until now."""
        known = self.watched_videos.get(job.visitor, source.path, num_frames=num_frames)
        if known:
            return known, True, asdict(known.video.timings)
        job.report("opening the video")
        self.sources.check(source)
        job.report("watching frames", 0, num_frames)
        with source.problems():
            video = self._model.watch(
                source.path,
                num_frames=num_frames,
                progress=lambda seen, total: job.report("watching frames", seen, total),
            )
        kept = self.watched_videos.put(job.visitor, source.path, num_frames=num_frames, video=video)
        return kept, False, dict.fromkeys(asdict(video.timings), 0.0)


def _since(before: Seconds, watched: Watched) -> Seconds:
    """Return the seconds per part since an earlier reading, under the names of the command line."""
    return {part[:-2]: value - before[part] for part, value in asdict(watched.video.timings).items()}


def _check_length(text: str, most: int) -> None:
    if len(text) > most:
        raise QuestionError(f"This text has {len(text)} characters; at most {most} go.")


def _check_count(field: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise FieldError(field, f"{count} does not go here; give 1 to {most}.")
