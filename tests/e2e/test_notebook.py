"""The notebook of the documentation, cell by cell in one process."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell, and return what its last line is worth, which a notebook would show."""
    *before, last = ast.parse(source).body
    exec(compile(ast.Module(before, []), "notebook", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
    exec(compile(ast.Module([last], []), "notebook", "exec"), names)
    return None


def test_the_notebook_runs_and_answers_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = [run("".join(cell["source"]), names) for cell in CODE]
    assert names["answer"].text == "beach"
    assert [names[name].text for name in ("part", "again")] == ["beach", "beach"]
    assert any(start.start_s < 35 and start.end_s > 30 for start in names["moments"].moments)
    assert [one.error for one in names["found"]] == [None, None, None]
    assert (tmp_path / "answer" / "answer.json").is_file()
    drawn = [one._repr_html_() for one in shown if hasattr(one, "_repr_html_")]
    assert len(drawn) == 3
    assert all("<img " in html and "<polyline " in html for html in drawn)


def test_the_notebook_is_kept_without_outputs() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
