"""Files of a run that hold what no JSON parser takes are damaged, and no reason to fail without a word."""

from pathlib import Path

import pytest

from lavis.common.errors import CheckpointError, UserError
from lavis.common.logging import read_json_lines
from lavis.datasets.checking import Journal
from lavis.runners.checkpoint import MANIFEST, read_checkpoint
from lavis.runners.evaluation.results import FACTS, read_facts

BAD = pytest.mark.parametrize("bad", ["[" * 100_000, "1" * 5000, "{", "\0", "{}"], ids=lambda text: text[:3])


@BAD
def test_a_line_that_is_no_row_is_left_out(bad: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"a": 1}}\n{bad}\n')
    assert read_json_lines(tmp_path / "log.jsonl")[0] == {"a": 1}


@BAD
def test_a_journal_goes_on_after_a_bad_line(bad: str, tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text(f"{bad}\n")
    assert Journal(tmp_path / "facts.jsonl", settings={"a": 1}) is not None


@BAD
def test_bad_facts_are_named(bad: str, tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text(bad)
    with pytest.raises(UserError, match=FACTS):
        read_facts(tmp_path)


@BAD
def test_a_bad_manifest_is_named(bad: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(bad)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(tmp_path)
