"""What people read says "1 frame", not "1 frames": numbers before a noun go through `counted`."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, python_files

_PLURAL = re.compile(r" (frames|keyframes|questions|options|videos|clips|moments|rows|shards|files|entries)\b")
_ONE_OF = ("of ", "its ", "the ")  # "3 of 5 frames": the noun is of all


def uncounted(source: str) -> list[str]:
    """Nouns in the plural right behind a number that may be 1."""
    found = []
    for text in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)):
        before = ""
        for part, after in zip(text.values, [*text.values[1:], None], strict=True):
            if isinstance(part, ast.Constant):
                before = str(part.value)
                continue
            noun = _PLURAL.match(after.value) if isinstance(after, ast.Constant) else None
            if noun and is_number(part) and not before.endswith(_ONE_OF):
                found.append(f"line {text.lineno}: {noun[1]}")
            before = ""
    return found


def is_number(part: ast.expr) -> bool:
    """Whether a placeholder shows a length or a count."""
    assert isinstance(part, ast.FormattedValue)
    shown = ast.unparse(part.value)
    return (
        shown.startswith("len(")
        or re.search(r"(num_|count|total|\.questions|\.videos|'questions'\])", shown) is not None
    )


@pytest.mark.parametrize("path", python_files("lavis/cli", "lavis/export"), ids=str)
def test_numbers_before_nouns_are_counted(path: Path) -> None:
    assert uncounted((ROOT / path).read_text(encoding="utf-8")) == []


def test_what_is_not_counted_is_found() -> None:
    assert uncounted('f"{len(rows)} rows, {num_frames} frames, 3 of {num_frames} frames"') == [
        "line 1: rows",
        "line 1: frames",
    ]
