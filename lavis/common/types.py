"""The data that flows between the parts, in plain Python and NumPy.

Seconds are seconds (`*_s`) and frame indices are indices into the source video (`frame_idx`);
a *position* counts within the sampled frames. T sampled frames, K keyframes, O options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lavis.common.errors import UserError, counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Of what a model cannot spell: parts named in a caveat, and characters shown of each.
_MOST_NAMED, _MOST_SHOWN = 5, 20
_MOST_TIMES, _MOST_TEXT = 6, 80  # that a `repr` shows


class _Compared:
    """Compares by values, arrays among them; what is measured anew each time is left out."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [one.name for one in fields(self) if one.compare]  # type: ignore[arg-type]
        return all(_is_same(getattr(self, name), getattr(other, name)) for name in names)


def _is_same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        return np.array_equal(ours, theirs, equal_nan=True)
    return bool(ours == theirs)


def _times(times_s: "Sequence[float] | Floats") -> str:
    """Return times as a `repr` shows them, such as "at 0.5, 1.2 s"."""
    more = ", ..." if len(times_s) > _MOST_TIMES else ""
    return f"at {', '.join(f'{time_s:.4g}' for time_s in times_s[:_MOST_TIMES])}{more} s" if len(times_s) else "none"


def _short(text: str) -> str:
    return repr(text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}...")


@dataclass(frozen=True, slots=True)
class Span:
    """A closed interval of time in seconds."""

    start_s: float
    end_s: float

    def __str__(self) -> str:
        return f"{self.start_s:g} to {self.end_s:g} s"


@dataclass(frozen=True, slots=True)
class Subtitle:
    """What is said in a video between two times, in seconds."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one video.

    Attributes:
        text: the question, or the query sentence of a moment search.
        options: the answers to choose from, in order (A, B, ...); empty for an open answer.
        id: unique among all splits of a dataset.
        answer: index of the right option, or None if it is not known.
        kind: the question type that metrics group by, such as "CW" for NExT-QA.
        video: the video's name, relative to the dataset's video folders.
        clip: the part of the video the question is about; None is the whole video.
        windows: annotated relevant windows (moment retrieval); None if not annotated.
        subtitles: what is said in the video and when, in the order of time.
        heard: the subtitles that are read with the frames, as lines of text; prompts word it.
    """

    text: str
    options: tuple[str, ...] = ()
    id: str = ""
    answer: int | None = None
    kind: str | None = None
    video: str | None = None
    clip: Span | None = None
    windows: tuple[Span, ...] | None = None
    subtitles: tuple[Subtitle, ...] = ()
    heard: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """What of a prompt does not reach the language model, or of its answer does not come back.

    Attributes:
        truncated: the prompt was too long and lost its end.
        unspelt: the parts that the model's vocabulary cannot spell, each once, in their order; all of them are read as
            the same unknown token.
        notes: what else a reader of the answer must know, each once, as sentences without a full stop.
        subtitles: how many subtitles of the frames were left out, since they were too long together.
    """

    truncated: bool = False
    unspelt: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    subtitles: int = 0

    def __or__(self, other: "Unread") -> "Unread":
        """Return what either prompt of a question loses."""
        return Unread(
            self.truncated or other.truncated,
            tuple(dict.fromkeys(self.unspelt + other.unspelt)),
            tuple(dict.fromkeys(self.notes + other.notes)),
            self.subtitles + other.subtitles,
        )

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the answer must know of it."""
        caveats = []
        if self.truncated:
            caveats.append("the question is too long for the model and lost its end")
        if self.unspelt:
            named = [repr(part if len(part) <= _MOST_SHOWN else f"{part[:_MOST_SHOWN]}...") for part in self.unspelt]
            more = [f"{len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
            caveats.append(
                f"the model cannot spell {', '.join(named[:_MOST_NAMED] + more)} in the question or its options, "
                "and reads an unknown word there"
            )
        if self.subtitles:
            caveats.append(f"the subtitles of the frames are too long, and the last {self.subtitles} were left out")
        return (*caveats, *self.notes)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        num_frames: frames a player shows (frames an edit list discards are not counted).
        fps: average frames per second.
        duration_s: from the first frame's start to the last frame's end, in seconds.
        width, height: pixels, as shown (after rotation).
        rotation: degrees clockwise the decoder's picture is turned to be shown: 0, 90, 180, 270.
        mirrored: its left and right are exchanged before it is turned.
    """

    path: str
    num_frames: int
    fps: float
    duration_s: float
    width: int
    height: int
    rotation: int = 0
    mirrored: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch(_Compared):
    """Decoded frames of one video, in time order.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        frame_idx: int64 [T], indices into the source video.
        times_s: float64 [T], each frame's own presentation time in seconds from the video's start.
    """

    frames: npt.NDArray[np.uint8]
    frame_idx: Integers
    times_s: Floats

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        height, width = self.frames.shape[1:3]
        return f"FrameBatch({counted(len(self), 'frame')} of {width}x{height}, {_times(self.times_s)})"


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took to choose frames, or to answer from them, for all questions that were asked together.

    Attributes:
        frames_decoded: pictures that were decoded; a frame that was decoded again, for somebody else, counts again. Of
            choosing alone, frames that were not decoded before.
        frames_scored: frames that have a score, summed over the questions.
        scorer_calls: times that the scorer was asked, for scores or for features.
        seconds: of wall time.
        frame_tokens: of the frames that the Answerer read, summed over the questions, without the text around them;
            None where it does not say, and where nothing was read.
    """

    frames_decoded: float
    frames_scored: float
    scorer_calls: float
    seconds: float
    frame_tokens: float | None = None

    def share(self, count: int) -> "Cost":
        """Return the cost of one of so many questions."""
        tokens = None if self.frame_tokens is None else self.frame_tokens / count
        return Cost(
            self.frames_decoded / count,
            self.frames_scored / count,
            self.scorer_calls / count,
            self.seconds / count,
            tokens,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Keyframes(_Compared):
    """The frames chosen for a question, in time order, and how all frames were judged.

    Attributes:
        positions: int64 [K], positions among the T sampled frames.
        frame_idx: int64 [K], indices into the source video.
        times_s: float64 [K].
        scores: float64 [K], the selector's score of each chosen frame (Localizer: the logit of "yes").
        all_times_s: float64 [T], times of all sampled frames.
        all_scores: float64 [T], scores of all sampled frames, NaN for those that were not scored; empty where the
            selector scores none.
        all_frame_idx: int64 [T]; empty where it is not known.
        sizes: float64 [K], the side at which each frame was read, as a part of the video's; empty where all were read
            at their own.
    """

    positions: Integers
    frame_idx: Integers
    times_s: Floats
    scores: Floats
    all_times_s: Floats
    all_scores: Floats
    sizes: Floats = field(default_factory=lambda: np.empty(0))
    all_frame_idx: Integers = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def num_scored(self) -> int:
        """How many of the T frames were scored: each took a call of the language model."""
        return int(np.isfinite(self.all_scores).sum())

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        return f"Keyframes({len(self)} of {counted(len(self.all_times_s), 'frame')}, {_times(self.times_s)})"


class ResultOrigin(Protocol):
    """The video and the model that a result comes from, which make of it what needs them."""

    def record(self, result: Any) -> dict[str, Any]:
        """Return plain values for JSON."""

    def save(self, result: Any, folder: "str | PathLike[str]", *, force: bool) -> None:
        """Write the record, pictures and what else others read to a new folder."""

    def figure(self, result: Any) -> "Figure":
        """Draw it."""

    def html(self, result: Any) -> str:
        """Show it in a notebook."""


class _Result(_Compared):
    """What people do with a result; `origin` does it."""

    __slots__ = ()
    origin: ResultOrigin | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, as `--json` prints them (`lavis.export.records`)."""
        return _origin_of(self).record(self)

    def save(self, folder: "str | PathLike[str]", *, force: bool = False) -> None:
        """Write the files of `--save` to a new folder; `force` replaces the results of an earlier run.

        Raises:
            UserError: the folder cannot be written, or holds files.
            VideoError: the video cannot be read again.
        """
        _origin_of(self).save(self, folder, force=force)

    def figure(self) -> "Figure":
        """Return the picture of `--save` as a matplotlib figure.

        Raises:
            VideoError: the video cannot be read again.
        """
        return _origin_of(self).figure(self)

    def _repr_html_(self) -> str | None:
        return None if self.origin is None else self.origin.html(self)


def _origin_of(result: _Result) -> ResultOrigin:
    if result.origin is None:
        raise UserError("this result was not made by a video's ask or find, so its pictures and facts are not known")
    return result.origin


@dataclass(frozen=True, slots=True, eq=False)
class Answer(_Result):
    """What the model answers, and from what.

    Attributes:
        index: the chosen option, or None for an open answer.
        text: the chosen option's text, or the generated answer.
        option_scores: float64 [O], the logit of each option's letter (the mean over frames where each
            frame is read alone); empty for an open answer, and where the model tells its choice alone.
        keyframes: the frames that were read.
        frame_choices: int64 [K], each frame's own choice where frames are read alone; else empty.
        caveats: what a reader of this answer must know, such as untrained weights or an unread part of it.
        clip: the part of the video that was watched; None is all of it.
        cost: what it took since the video was asked before, or, the first time, with watching it; not compared.
        origin: the video and the model, for `to_dict`, `save` and `figure`; not compared.
    """

    question: Question
    index: int | None
    text: str
    option_scores: Floats
    keyframes: Keyframes
    frame_choices: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    caveats: tuple[str, ...] = ()
    clip: Span | None = None
    cost: Cost | None = field(default=None, compare=False)
    origin: ResultOrigin | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        of = "" if self.index is None else f", option {self.index} of {len(self.question.options)}"
        keyframes = f"{counted(len(self.keyframes), 'keyframe')} {_times(self.keyframes.times_s)}"
        return f"Answer({_short(self.text)}{of}, {keyframes})"


@dataclass(frozen=True, slots=True)
class Moment:
    """A part of the video that matches a query; a higher score is a better match."""

    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Moments(_Result):
    """All moments found for a query, best first, and the curve they were read from.

    Attributes:
        times_s: float64 [T], times of the sampled frames.
        scores: float64 [T], the Localizer's margin of each frame ("yes" minus "no"): above 0 it matches.
        clip: the part of the video that was watched; None is all of it.
        cost, origin: as of an `Answer`.
        frame_idx: int64 [T], indices of the sampled frames in the source; empty where they are not known.
    """

    query: str
    moments: tuple[Moment, ...]
    times_s: Floats
    scores: Floats
    caveats: tuple[str, ...] = field(default=())
    clip: Span | None = None
    cost: Cost | None = field(default=None, compare=False)
    frame_idx: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    origin: ResultOrigin | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        shown = [f"{one.start_s:.4g} to {one.end_s:.4g} s" for one in self.moments[:_MOST_TIMES]]
        more = ["..."] if len(self.moments) > len(shown) else []
        found = f"{counted(len(self.moments), 'moment')}{': ' if shown else ''}{', '.join(shown + more)}"
        return f"Moments({_short(self.query)}, {found})"
