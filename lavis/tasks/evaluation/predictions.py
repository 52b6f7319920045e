"""What a model said about one question, as one line of `predictions.jsonl`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lavis.common.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was said about one question, and from which frames.

    Attributes:
        id: the question's id.
        answer: index of the right option as annotated; None if it is not known, or for a search.
        choice: index of the chosen option; None for a search, and where the video could not be read.
        option_scores: [O], the logit of each option's letter (the mean over frames where each is read alone).
        frame_choices: [K], each frame's own choice where frames are read alone.
        keyframe_idx: [K], the frames that were read, as indices into the source video.
        keyframe_times_s: [K].
        frame_times_s: [T], all sampled frames.
        frame_scores: [T], how well they suit the question: the logit of "yes", or for a search the margin
            "yes" minus "no". Empty where the selector scores no frames.
        cut: the question was too long for the model and lost its end.
        unspelt: parts of it that the model's vocabulary cannot spell.
        seconds: time spent on it; what was done once for several questions is divided among them.
        unreadable: why the video could not be read; None if it could.
    """

    id: str
    video: str
    answer: int | None = None
    choice: int | None = None
    option_scores: tuple[float, ...] = ()
    frame_choices: tuple[int, ...] = ()
    keyframe_idx: tuple[int, ...] = ()
    keyframe_times_s: tuple[float, ...] = ()
    frame_times_s: tuple[float, ...] = ()
    frame_scores: tuple[float, ...] = ()
    cut: bool = False
    unspelt: tuple[str, ...] = ()
    seconds: float = 0.0
    unreadable: str | None = None

    @property
    def is_right(self) -> bool:
        """Whether the right option was chosen; a video that could not be read is wrong."""
        return self.answer is not None and self.choice == self.answer

    def as_row(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, place: str) -> "Prediction":
        """Read what `as_row` made.

        Raises:
            UserError: the row is something else.
        """
        names = {entry.name for entry in fields(cls)}
        if row.keys() != names:
            odd = sorted(row.keys() ^ names)[0]
            raise UserError(f"{place} is not a prediction of this version ({odd!r}); evaluate again in another folder")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
        }
        return cls(**values)
