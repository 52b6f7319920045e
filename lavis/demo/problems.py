"""Mistakes of a visitor, each with the field of the page that it is shown beside."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from lavis.common.errors import NotFiniteError, UserError

_log = logging.getLogger(__name__)

# The fields of the page that a message can stand beside; "result" is for whatever has no field.
FIELDS = ("video", "question", "options", "frames", "keyframes", "query", "result")


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
    except (FieldError, JobError, NotFiniteError):
        raise
    except UserError as error:
        raise FieldError(field, str(error)) from error


class DefectsLogged:
    """Logs a defect inside the block under a number; the visitor is told the number, and nothing else of it."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UserError) or not isinstance(error, Exception):
            return
        number = secrets.token_hex(4)
        _log.error("error %s", number, exc_info=error)
        raise JobError(f"Something went wrong here. It was logged as error {number}.") from error
