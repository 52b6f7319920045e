"""Mistakes of a visitor, each with the field of the page that it is shown beside."""

from collections.abc import Iterator
from contextlib import contextmanager

from lavis.common.errors import UserError

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
    """Give mistakes inside the block a field, unless they have one or are the job's."""
    try:
        yield
    except (FieldError, JobError):
        raise
    except UserError as error:
        raise FieldError(field, str(error)) from error
