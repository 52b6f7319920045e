"""Errors a user can mend: one line that names the thing, the value and the way out.

Everything a person can cause (a wrong path, an unknown key, a damaged file) raises a
`UserError`; the entry points print its message without a traceback and exit with
`EXIT_USER_ERROR`. Anything else is a defect of the program and keeps its traceback.
"""

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
# What a shell reports for a process that SIGTERM ended: schedulers take it for neither success nor a defect.
EXIT_TERMINATED = 143


class UserError(ValueError):
    """A mistake in what was given to the program; its message is a single line."""


class VideoError(UserError):
    """A video that is missing, is not a video, or cannot be decoded."""


class QuestionError(UserError):
    """A question or its options that cannot be asked (no text, one option, doubled options)."""


class ConfigError(UserError):
    """An unknown key, a wrong type or an impossible value in a configuration or on the command line."""


class CheckpointError(UserError):
    """Weights that are missing, damaged, or do not fit the model they are loaded into."""


class NotFiniteError(UserError):
    """Scores that are no numbers, from weights or settings that hold none, or a precision that is too small."""


class BrokenModelError(NotFiniteError):
    """Weights or settings of a model that hold no numbers, so that every question fails."""


class AnnotationError(UserError):
    """A row of an annotation file that does not fit the schema."""


class FaultError(RuntimeError):
    """Something that the program stands on gave way (memory, disk, another process); its message is a single line."""


class TerminatedError(Exception):
    """The process was asked to end (SIGTERM), and what it had done is saved; its message is a single line."""


class MissingExtraError(UserError):
    """An optional dependency is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'sevila[{extra}]'")
