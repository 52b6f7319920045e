"""Files stay under 300 lines and functions under 40, or there is a reason."""

import pytest

from tests.architecture.source import ROOT, Function, all_python_files, functions

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40  # the docstring aside

# "path" or "path::function" -> why it is better long than split.
REASONS: dict[str, str] = {}


def too_long() -> set[str]:
    found = set()
    for path in all_python_files():
        source = (ROOT / path).read_text(encoding="utf-8")
        if len(source.splitlines()) > MAX_FILE_LINES:
            found.add(path.as_posix())
        found |= {f"{path.as_posix()}::{f.name}" for f in functions(source) if f.num_lines > MAX_FUNCTION_LINES}
    return found


def test_whatever_is_long_has_a_stated_reason() -> None:
    assert too_long() - REASONS.keys() == set()


def test_no_reason_outlives_what_it_excuses() -> None:
    assert REASONS.keys() - too_long() == set()


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
