"""What the page does, without the page: the pipeline of the command line, within limits, and reporting its steps.

Nothing in here knows of Gradio.
"""

import csv
import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lavis.common import defaults
from lavis.common.errors import QuestionError, counted
from lavis.common.times import TimeLike, parse_time
from lavis.common.types import Answer, Integers, Moment, Moments, Question, Span, VideoInfo
from lavis.demo.jobs import Job
from lavis.demo.models import Loader, Models
from lavis.demo.settings import FieldError, Settings, shown_beside
from lavis.demo.videos import Source, Sources, Watched, WatchedVideos
from lavis.export.editors import moments_vtt
from lavis.export.files import as_text, jpeg, keyframe_name, slug
from lavis.export.records import Record, answer_record, best_positions, moments_record, to_json
from lavis.processors.prompts import check_question
from lavis.video import open_video

Seconds = Mapping[str, float]
# By their kind, the name and the content of files to take away.
Files = dict[str, tuple[str, bytes]]


@dataclass(frozen=True)
class AnswerRequest:
    """A question on the page: open without options; 4 keyframes, or all there are, where no number is given.

    Attributes:
        clip: the part of the video that is watched; it may end at infinity. None is all of it.
        model: the name of the model that is asked; the empty one is the first.
    """

    question: str
    options: tuple[str, ...] = ()
    num_frames: int = defaults.NUM_FRAMES
    num_keyframes: int | None = None
    compare: bool = False
    clip: Span | None = None
    model: str = ""


@dataclass(frozen=True)
class FindRequest:
    """Sentences to find moments for; `clip` and `model` as in `AnswerRequest`."""

    queries: tuple[str, ...]
    num_frames: int = defaults.NUM_FRAMES
    max_moments: int | None = defaults.MAX_MOMENTS
    clip: Span | None = None
    model: str = ""


def part_between(start: TimeLike | None, end: TimeLike | None) -> Span | None:
    """Return the part of a video between two times as people write them; None and "" are its start, and its end.

    Raises:
        FieldError: one is no time.
    """
    start, end = (None if isinstance(time, str) and not time.strip() else time for time in (start, end))
    if start is None and end is None:
        return None
    with shown_beside("clip"):
        return Span(0.0 if start is None else parse_time(start), math.inf if end is None else parse_time(end))


@dataclass(frozen=True)
class PicturedAnswer:
    """An answer with a picture (JPEG) of each of its keyframes."""

    answer: Answer
    pictures: tuple[bytes, ...]


@dataclass(frozen=True)
class PicturedMoments:
    """The moments found for a sentence, with a picture (JPEG) of each one's best frame."""

    moments: Moments
    pictures: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What is shown beside any result.

    Attributes:
        asked: what gives the same result again.
        seconds: what each part took for this question alone; decode and watch are 0 where the video was known.
        known: whether the video had been watched before.
        caveats: what to know of this result: of the model's weights, the video, and what was not read.
    """

    source: Source
    asked: AnswerRequest | FindRequest
    info: VideoInfo
    model_name: str
    seconds: Seconds
    known: bool
    caveats: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnswerResult(_Result):
    """An answer, the one from uniform frames where asked for, and the watched frames' `frame_idx`, int64 [T]."""

    chosen: PicturedAnswer
    uniform: PicturedAnswer | None
    frame_idx: Integers

    @property
    def record(self) -> Record:
        """The record of `sevila answer --json`, with the video's name for its path."""
        return answer_record(self.chosen.answer, video=self.info, model=self.model_name, timings_s=self.seconds)

    def files(self) -> Files:
        """Return the record, a row per watched frame, the keyframes at the video's own size, and all as one picture."""
        from lavis.export.pictures import answer_picture

        answer, frames = self.chosen.answer, self.chosen.answer.keyframes
        scored = zip(self.frame_idx, frames.all_times_s, frames.all_scores, strict=True)
        rows = [
            (index, f"{time_s:.3f}", f"{score:.6f}", int(position in frames.positions))
            for position, (index, time_s, score) in enumerate(scored)
        ]
        contents = {
            "json": as_text(to_json(self.record)),
            "csv": _csv("frame_idx,time_s,score,keyframe", rows),
            "zip": self._keyframes_zip(),
            "png": answer_picture(answer, frames=_pixels(self.chosen.pictures), video=self.info, model=self.model_name),
        }
        return _named(answer.question.text, contents)

    def _keyframes_zip(self) -> bytes:
        frames, buffer = self.chosen.answer.keyframes, io.BytesIO()
        with (
            self.source.problems(),
            open_video(self.source.path) as video,
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive,  # JPEGs do not get smaller
        ):
            full = zip(frames.times_s, video.stream(frames.frame_idx, chunk=1), strict=True)
            for number, (time_s, batch) in enumerate(full, start=1):
                name = keyframe_name(number, time_s=float(time_s), frame_idx=int(batch.frame_idx[0]))
                archive.writestr(name, jpeg(batch.frames[0]))
        return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class FindResult(_Result):
    """The moments found for each sentence, in the order they were asked for."""

    searches: tuple[PicturedMoments, ...]

    @property
    def all_moments(self) -> list[Moment]:
        """The moments of all sentences, in the order in which they are numbered."""
        return [moment for search in self.searches for moment in search.moments.moments]

    @property
    def records(self) -> list[Record]:
        """The records of `sevila find --json`, with the video's name for its path."""
        return [
            moments_record(search.moments, video=self.info, model=self.model_name, timings_s=self.seconds)
            for search in self.searches
        ]

    def files(self) -> Files:
        """Return the record, a row per moment (best first), WebVTT chapters, and all as one picture.

        Of several sentences: a list of records, rows that end with the sentence, and one below the other.
        """
        from lavis.export.pictures import moments_picture

        several, records = len(self.searches) > 1, self.records
        rows = [
            (rank, f"{moment.start_s:.3f}", f"{moment.end_s:.3f}", f"{moment.score:.6f}")
            + ((search.moments.query,) if several else ())
            for search in self.searches
            for rank, moment in enumerate(search.moments.moments, start=1)
        ]
        pictures = [
            moments_picture(search.moments, frames=_pixels(search.pictures), video=self.info, model=self.model_name)
            for search in self.searches
        ]
        contents = {
            "json": as_text(to_json(records if several else records[0])),
            "csv": _csv("rank,start_s,end_s,score" + (",query" if several else ""), rows),
            "vtt": _joined_vtt([moments_vtt(search.moments) for search in self.searches]),
            "png": _below_each_other(pictures),
        }
        return _named(self.searches[0].moments.query, contents)


def _named(text: str, contents: dict[str, bytes]) -> Files:
    name = slug(text) or "result"
    return {kind: (f"{name}.{kind}", content) for kind, content in contents.items()}


def _pixels(pictures: Sequence[bytes]) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]


def _csv(header: str, rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    return as_text(text.getvalue())


def _joined_vtt(texts: Sequence[str]) -> bytes:
    """Return WebVTT files as one: players take cues in any order."""
    heading, first = texts[0].split("\n\n", 1) if "\n\n" in texts[0] else (texts[0].rstrip(), "")
    cues = [text.split("\n\n", 1)[1] for text in texts[1:] if "\n\n" in text]
    return as_text("\n".join([f"{heading}\n", first, *cues]))


def _below_each_other(pictures: Sequence[bytes]) -> bytes:
    """Return PNGs as one."""
    if len(pictures) == 1:
        return pictures[0]
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    joined = Image.new("RGB", (max(one.width for one in opened), sum(one.height for one in opened)), "white")
    top = 0
    for one in opened:
        joined.paste(one, (0, top))
        top += one.height
    buffer = io.BytesIO()
    joined.save(buffer, "PNG")
    return buffer.getvalue()


class Service:
    """Answers and finds for visitors, by a loaded model (`lavis.load_model`)."""

    def __init__(
        self,
        model: Any,
        *,
        model_name: str,
        sources: Sources,
        settings: Settings,
        other_models: Mapping[str, Loader] | None = None,
    ) -> None:
        self.sources = sources
        self.settings = settings
        self.watched_videos = WatchedVideos(most=settings.max_watched, keep_s=settings.keep_s)
        self._models = Models(model_name, model, other_models or {}, dropped=self.watched_videos.forget_model)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be known of the first model's weights."""
        return tuple(self._models.first.caveats)

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that can be asked; the first one is, unless a visitor says otherwise."""
        return self._models.names

    def answer(self, source: Source, asked: AnswerRequest, job: Job) -> AnswerResult:
        """Watch the video if it is new, and answer.

        Raises:
            FieldError: see `check`, and the pipeline's own.
            JobError: the job was cancelled or took too long.
        """
        self.check(asked)
        watched, known, before = self._watch(source, asked, job)
        video = watched.video
        job.report("reading the question")
        count = asked.num_keyframes
        if count is None:
            count = min(self.settings.num_keyframes, len(video.frame_idx))
        ask = partial(video.ask, asked.question, asked.options, num_keyframes=count)
        with shown_beside("keyframes"):
            answers = [ask()]
        # Noted here: the comparison's time is no part of the answer's.
        origin = self._origin(source, asked, watched, answers[0].caveats, known=known, before=before)
        if asked.compare:
            job.report("comparing with uniform frames")
            answers.append(ask(selector="uniform"))
        job.report("reading the keyframes")
        with source.problems():
            chosen, *uniform = (
                PicturedAnswer(answer, watched.pictures(answer.keyframes.frame_idx)) for answer in answers
            )
        return AnswerResult(chosen=chosen, uniform=next(iter(uniform), None), frame_idx=video.frame_idx, **origin)

    def find(self, source: Source, asked: FindRequest, job: Job) -> FindResult:
        """Watch the video if it is new, and find the moments of each sentence; raises as `answer`."""
        self.check(asked)
        watched, known, before = self._watch(source, asked, job)
        video, found = watched.video, []
        for query in asked.queries:
            job.report("comparing frames with the sentence")
            with shown_beside("query"):
                found.append(video.find(query, max_moments=asked.max_moments or self.settings.max_moments))
        caveats = tuple(dict.fromkeys(caveat for moments in found for caveat in moments.caveats))
        origin = self._origin(source, asked, watched, caveats, known=known, before=before)
        job.report("reading the best frames")
        with source.problems():
            searches = tuple(
                PicturedMoments(moments, watched.pictures(video.frame_idx[best_positions(moments)]))
                for moments in found
            )
        return FindResult(searches=searches, **origin)

    def check(self, asked: AnswerRequest | FindRequest) -> None:
        """Refuse by a FieldError what cannot be asked, before anything is opened."""
        self._models.name_of(asked.model)
        _check_clip(asked.clip)
        _check_count("frames", asked.num_frames, self.settings.max_frames)
        if isinstance(asked, AnswerRequest):
            self._check_question(asked)
        else:
            self._check_search(asked)

    def _check_search(self, asked: FindRequest) -> None:
        limits = self.settings
        if len(asked.queries) > limits.max_queries:
            raise FieldError("query", f"{len(asked.queries)} sentences given; at most {limits.max_queries} go.")
        for query in asked.queries or ("",):
            self._check_text("query", query)
        repeated = next((query for query in asked.queries if asked.queries.count(query) > 1), None)
        if repeated is not None:
            raise FieldError("query", f"{repeated!r:.80} stands there twice; give different sentences.")
        if asked.max_moments is not None:
            _check_count("query", asked.max_moments, limits.max_moments)

    def _check_question(self, asked: AnswerRequest) -> None:
        limits = self.settings
        self._check_text("question", asked.question)
        with shown_beside("options"):
            if len(asked.options) > limits.max_options:
                raise QuestionError(f"{counted(len(asked.options), 'option')} given; at most {limits.max_options} go")
            check_question(Question(text=asked.question, options=asked.options))
            for option in asked.options:
                _check_length(option, limits.max_option_chars)
        if asked.num_keyframes is None:
            return
        _check_count("keyframes", asked.num_keyframes, limits.max_keyframes)
        if asked.num_keyframes > asked.num_frames:
            raise FieldError(
                "keyframes",
                f"Cannot read {counted(asked.num_keyframes, 'keyframe')} of {counted(asked.num_frames, 'frame')}; "
                f"read at most {asked.num_frames}, or watch more frames.",
            )

    def _check_text(self, field: str, text: str) -> None:
        with shown_beside(field):
            check_question(Question(text=text))
            _check_length(text, self.settings.max_question_chars)

    def _watch(self, source: Source, asked: AnswerRequest | FindRequest, job: Job) -> tuple[Watched, bool, Seconds]:
        """Return the watched video, whether it had been watched before, and the seconds spent on it until now."""
        num_frames, clip, name = asked.num_frames, asked.clip, self._models.name_of(asked.model)
        how: dict[str, Any] = {"num_frames": num_frames, "clip": clip, "model": name}
        known = self.watched_videos.get(job.visitor, source.path, **how)
        if known:
            return known, True, asdict(known.video.timings)
        job.report("opening the video")
        part = _part_of(clip, self.sources.check(source))
        model = self._models.get(name, report=job.report)
        job.report("watching frames", 0, num_frames)
        with source.problems():
            video = model.watch(
                source.path, num_frames=num_frames, clip=part, progress=partial(job.report, "watching frames")
            )
        watched = self.watched_videos.put(job.visitor, source.path, video=video, **how)
        return watched, False, dict.fromkeys(asdict(video.timings), 0.0)

    def _origin(
        self,
        source: Source,
        asked: AnswerRequest | FindRequest,
        watched: Watched,
        caveats: tuple[str, ...],
        *,
        known: bool,
        before: Seconds,
    ) -> dict[str, Any]:
        """Return what a result says of its video, its model, the seconds spent since `before`, and its caveats."""
        timings = asdict(watched.video.timings)
        return {
            "source": source,
            "asked": asked,
            "info": source.shown(watched.video.info),
            "model_name": self._models.name_of(asked.model),
            "seconds": {part.removesuffix("_s"): value - before[part] for part, value in timings.items()},
            "known": known,
            "caveats": caveats,
        }


def _check_length(text: str, most: int) -> None:
    if len(text) > most:
        raise QuestionError(f"This text has {len(text)} characters; at most {most} go.")


def _check_count(field: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise FieldError(field, f"{count} does not go here; give 1 to {most}.")


def _check_clip(clip: Span | None) -> None:
    if clip is not None and not 0 <= clip.start_s < clip.end_s:  # so not a number neither
        raise FieldError("clip", f"There is no part from {clip}; give a start of 0 or more, and an end after it.")


def _part_of(clip: Span | None, info: VideoInfo) -> Span | None:
    """Return a clip that ends no later than its video where no end was given."""
    if clip is None:
        return None
    if clip.start_s >= info.duration_s:
        lasts = f"{info.duration_s:.2f}".rstrip("0").rstrip(".")
        raise FieldError("clip", f"The part starts at {clip.start_s:g} s, but the video lasts {lasts} s.")
    return replace(clip, end_s=info.duration_s) if math.isinf(clip.end_s) else clip
