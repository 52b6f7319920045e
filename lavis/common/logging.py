"""What a run says: lines for people on the terminal and in a file, and one JSON object a line for programs."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavis.common.errors import FaultError

_FORMAT = "%(asctime)s %(message)s"
# Control characters become their pictures; those without one, or that overrule the direction of text, U+FFFD.
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


def visible(text: str) -> str:
    """Return a text of the same length that cannot move a terminal's cursor, hide or turn around what it says."""
    return text.translate(_VISIBLE)


def start_logging(*, file: Path | None = None, quiet: bool = False) -> None:
    """Let the package's log lines, or where `quiet` only its warnings, appear on the terminal and in a file."""
    package = logging.getLogger("lavis")
    for handler in list(package.handlers):
        package.removeHandler(handler)
        handler.close()
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    package.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(_Visible(_FORMAT, datefmt="%H:%M:%S"))
        package.addHandler(handler)


class _Visible(logging.Formatter):
    """Shows names of files and the like as they are, without what a terminal takes for orders."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(super().format(record))


def removed(path: Path) -> FaultError:
    """Return the error for a file of a run that was there when the run began."""
    return FaultError(f"{path} was removed while it was in use; start again")


class JsonLines:
    """Appends one JSON object a line; every line is flushed, so a killed run loses none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; a FaultError says that the file was removed meanwhile, and with it what is written."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise removed(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the rows that `JsonLines` wrote; a last line that was cut short is left out."""
    if not path.is_file():
        return []
    rows = []
    # The cut may lie within a character.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # also a number of thousands of digits
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
