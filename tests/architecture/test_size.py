"""Files stay under 300 lines and functions under 40, or there is a reason."""

import pytest

from tests.architecture.source import ROOT, Function, all_python_files, functions

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40  # the docstring aside

# "path" or "path::function" -> why it is better long than split.
REASONS: dict[str, str] = {}


def too_long() -> dict[str, int]:
    """What is over the limit, and its number of lines."""
    found = {}
    for path in all_python_files():
        source = (ROOT / path).read_text(encoding="utf-8")
        lengths = {f"{path.as_posix()}::{function.name}": function.num_lines for function in functions(source)}
        found |= {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}
        if (lines := len(source.splitlines())) > MAX_FILE_LINES:
            found[path.as_posix()] = lines
    return found


def test_whatever_is_long_has_a_stated_reason() -> None:
    assert {name: lines for name, lines in too_long().items() if name not in REASONS} == {}


def test_no_reason_outlives_what_it_excuses() -> None:
    assert REASONS.keys() - too_long().keys() == set()


@pytest.mark.parametrize(
    ("source", "num_lines"),
    [
        ("def f():\n    return 1", 2),
        ("@cache\ndef f():\n    return 1", 3),
        ('def f():\n    """One.\n\n    Two.\n    """\n    return 1', 2),
        ("async def f():\n\n    # why\n    return 1", 4),
    ],
)
def test_function_lines_are_counted_without_the_docstring(source: str, num_lines: int) -> None:
    assert functions(source) == [Function("f", num_lines)]
