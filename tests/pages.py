"""The pages of the documentation, and what stands in them that a machine can run.

A code block is run, in the order of the page, unless an HTML comment right before it says otherwise:

    <!-- not run: it needs NExT-QA's videos -->     it is parsed, and the reason is there to read
    <!-- run by tests/e2e/test_command_docs.py -->  that file runs it, in a setting of its own

At the top of a page such a comment is about all of the page. `title="questions.csv"` behind a block's language makes it
a file of that name, which the commands after it read.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.architecture.source import ROOT

PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / folder / "README.md" for folder in ("sevila_data", "sevila_checkpoints")),
    ]
)
SHELL = ("bash", "console", "sh")
SHOWN = ("text", "mermaid", "bibtex")  # nothing to run: output, drawings, a citation
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_MARKER = re.compile(r"<!-- (?P<kind>not run: |run by )(?P<what>[^>]+?) -->\s*\Z")
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: relative to the checkout.
        title: the file that it stands for.
        not_run: why it is not run.
        run_by: the file of tests that runs it.
    """

    page: Path
    line: int
    language: str
    text: str
    title: str | None = None
    not_run: str | None = None
    run_by: Path | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run_here(self) -> bool:
        return self.language not in SHOWN and self.not_run is None and self.run_by is None

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command: of lines that begin with "$ " in a console, else of every line."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [words for line in lines for words in _commands(shlex.split(line, comments=True))]


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8") if text is None else text
    return list(_blocks(page.relative_to(ROOT), text))


def outside_blocks(text: str) -> str:
    """Return what is left of a page without its fenced blocks."""
    return _BLOCK.sub("", text)


def _commands(words: list[str]) -> Iterator[list[str]]:
    """Tell the commands of one line apart, but for those whose output is a word of another."""
    if any("$(" in word for word in words):
        yield words
        return
    for joins, command in groupby(words, key=lambda word: word in ("&&", "|")):
        if not joins:
            yield list(command)


def _blocks(page: Path, text: str) -> Iterator[Block]:
    of_page = _marker(text[: text.index("\n# ") + 1]) if "\n# " in text else {}
    for found in _BLOCK.finditer(text):
        title = _TITLE.search(found["rest"])
        yield Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            title=title[1] if title else None,
            **(_marker(text[: found.start()]) or of_page),
        )


def _marker(before: str) -> dict[str, "str | Path"]:
    found = _MARKER.search(before)
    if not found:
        return {}
    return {"not_run": found["what"]} if found["kind"] == "not run: " else {"run_by": Path(found["what"])}
