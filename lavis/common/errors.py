"""Errors a user can mend: one line that names the thing, the value and the way out; and the words of such lines.

Everything a person can cause (a wrong path, an unknown key, a damaged file) raises a
`UserError`; the entry points print its message without a traceback and exit with
`EXIT_USER_ERROR`. Anything else is a defect of the program and keeps its traceback.
"""

import difflib
import re
from collections.abc import Iterable
from numbers import Integral

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
# What a shell reports for a process that SIGTERM ended: schedulers take it for neither success nor a defect.
EXIT_TERMINATED = 143
OUT_OF_MEMORY = "out of memory: use fewer frames or keyframes, --dtype bf16, --quantize int8, or a smaller model"


# torch tells a full memory of the machine apart from other RuntimeErrors by its text alone.
_ALLOCATOR = re.compile(r"DefaultCPUAllocator: (can't|not enough)")
_LONGEST_MESSAGE = 2000  # characters: names and values come from files, and may be as long as these


class UserError(ValueError):
    """A mistake in what was given to the program; its message is a single line of bounded length."""

    def __str__(self) -> str:
        text = super().__str__()
        half = _LONGEST_MESSAGE // 2
        # Names stand at its beginning, the way out at its end.
        return text if len(text) <= _LONGEST_MESSAGE else f"{text[:half]} [...] {text[-half:]}"


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


class NoAnswerError(UserError):
    """What a model says is none of the answers it was to choose from; another one is not put in its place."""


class AnnotationError(UserError):
    """A row of an annotation file that does not fit the schema."""


class FaultError(RuntimeError):
    """A failure outside of the program (memory, disk, another process); its message is a single line."""


class TerminatedError(Exception):
    """The process was asked to end (SIGTERM), and what it had done is saved; its message is a single line."""


class MissingExtraError(UserError):
    """An optional dependency is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'sevila[{extra}]'")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Describe the allowed names for a message: "did you mean 'x'? known: ...", or only those where none is near."""
    names = sorted(set(known))
    listing = f"known: {', '.join(names)}" if names else "none are known"
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {nearest[0]!r}? {listing}" if nearest else listing


def first_line(error: BaseException) -> str:
    """Return the first line of what another library says, or the name of its error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was the reason, of the machine or a GPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or bool(_ALLOCATOR.search(first_line(error))))
    )


def counted(number: float, name: str, plural: str = "") -> str:
    """Return "1 frame" or "2 frames"; the plural is named where it is not made by an "s"."""
    shown = f"{number:g}" if isinstance(number, float) else number
    return f"{shown} {name if number == 1 else plural or f'{name}s'}"


def whole_number(value: object, name: str) -> int:
    """Return a whole number as it was given by a person, of Python or NumPy.

    Raises:
        ConfigError: it is none, such as "8" or 8.0.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise ConfigError(f"{name} is {value!r}; give a whole number")


def listed(names: Iterable[object], *, most: int = 30) -> str:
    """Quote the beginning of names for an error message, and give those beyond `most` as a number."""
    quoted = [f"{name!r:.80}" for name in names if name != ""]
    more = [f"{len(quoted) - most} more"] if len(quoted) > most else []
    return ", ".join(quoted[:most] + more) or "none"
