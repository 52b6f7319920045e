"""What the page allows: its limits, and a visitor's mistakes, each with the field it is shown beside."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any

from lavis.common import defaults
from lavis.common.errors import ConfigError, NoAnswerError, NotFiniteError, UserError

_log = logging.getLogger(__name__)

MEGABYTE = 1000**2
# The fields of the page that a message can stand beside; "result" is for whatever has no field.
FIELDS = ("video", "model", "clip", "question", "options", "frames", "keyframes", "query", "result")


def _option(default: int, purpose: str) -> Any:
    """Return a limit that `sevila demo` has an option for."""
    return field(default=default, metadata={"purpose": purpose})


@dataclass(frozen=True)
class Settings:
    """Limits of the page; the defaults suit a laptop and a small public server.

    Attributes:
        max_pixels: width times height of a video.
        max_watched: watched videos that are kept for further questions.
        max_queries: sentences that are searched at once.
        max_earlier: results about one video that a page can go back to, the shown one among them.
        max_sessions: open pages and programs whose fields are remembered, 0.1 MB each; who has been silent for longest
            is forgotten first.
    """

    max_upload_mb: int = _option(200, "size of an uploaded video, in MB")
    max_stored_mb: int = _option(4000, "size of all visitors' files together, in MB")
    max_duration_s: int = _option(1800, "length of a video, in seconds")
    max_pixels: int = 4096 * 2304
    max_frames: int = _option(128, "frames to watch")
    max_keyframes: int = _option(16, "keyframes to read")
    max_options: int = 8
    max_question_chars: int = _option(500, "characters of a question")
    max_option_chars: int = 200
    max_moments: int = 8
    max_queries: int = 5
    max_clip_s: int = 120
    max_job_s: int = _option(300, "seconds for one question")
    max_waiting: int = _option(64, "questions that wait for the model")
    max_jobs_per_address: int = _option(4, "questions at once from one network address")
    max_watched: int = 16
    max_earlier: int = 8
    max_sessions: int = 500
    keep_s: int = _option(3600, "seconds that visitors' files are kept; at most 3600")

    @property
    def num_frames(self) -> int:
        """Frames watched unless a visitor says otherwise."""
        return min(defaults.NUM_FRAMES, self.max_frames)

    @property
    def num_keyframes(self) -> int:
        """Frames read unless a visitor says otherwise; of a shorter video, all there are."""
        return min(defaults.NUM_KEYFRAMES, self.max_keyframes)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value < 1:
                raise ConfigError(f"{item.name} is {value}; it must be 1 or more")
        if self.max_options < 2:
            raise ConfigError(f"max_options is {self.max_options}; a choice needs 2 or more")
        if self.keep_s > 3600:
            raise ConfigError(f"keep_s is {self.keep_s}; visitors are promised that files go after 3600 s")


class FieldError(UserError):
    """A mistake in one field of the page."""

    def __init__(self, field: str, message: str) -> None:
        assert field in FIELDS
        super().__init__(message)
        self.field = field


class JobError(UserError):
    """A job that was refused, cancelled or took too long."""


@contextmanager
def shown_beside(field: str) -> Iterator[None]:
    """Give mistakes inside the block a field, unless they have one, or are the job's or the model's."""
    try:
        yield
    except (FieldError, JobError, NotFiniteError, NoAnswerError):
        raise
    except UserError as error:
        raise FieldError(field, str(error)) from error


class DefectsLogged(AbstractContextManager[None]):
    """Logs a defect inside the block under a number; the visitor is told the number, and nothing else of it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UserError) or not isinstance(error, Exception):
            return
        number = secrets.token_hex(4)
        _log.error("error %s", number, exc_info=error)
        raise JobError(f"Something went wrong here. It was logged as error {number}.") from error
