"""The notebooks of the documentation, cell by cell in one process."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL.Image import Image

from tests.e2e.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell, and return what its last line is worth, which a notebook would show."""
    *before, last = ast.parse(source).body
    exec(compile(ast.Module(before, []), "notebook", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
    exec(compile(ast.Module([last], []), "notebook", "exec"), names)
    return None


def run_all(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[Any]]:
    """Run a notebook in a folder; return its names, and what its cells show."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    return names, [run("".join(cell["source"]), names) for cell in cells(name, "code")]


def test_the_notebook_runs_and_answers_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, shown = run_all("notebook.ipynb", tmp_path, monkeypatch)
    assert names["answer"].text == "beach"
    assert [names[name].text for name in ("part", "again")] == ["beach", "beach"]
    assert any(start.start_s < 35 and start.end_s > 30 for start in names["moments"].moments)
    assert [one.error for one in names["found"]] == [None, None, None]
    assert (tmp_path / "answer" / "answer.json").is_file()
    drawn = [one._repr_html_() for one in shown if hasattr(one, "_repr_html_")]
    assert len(drawn) == 3
    assert all("<img " in html and "<polyline " in html for html in drawn)


def test_the_tutorial_asks_compares_and_refines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    names, shown = run_all("tutorial.ipynb", here, monkeypatch)
    assert not list(here.iterdir())  # all is written to a temporary folder
    said = capsys.readouterr().out

    assert names["answer"].index == names["asked"]["answer"]
    assert said.count("<- keyframe") == 4
    assert len(re.findall(r"^ *[\d.]+ s [| ] +-?\d+\.\d\d ", said, re.MULTILINE)) == 32
    assert "accurately answer the given question?" in said

    seen = {(row["selector"], row["k"]): row["windows"]["any"]["percent"] for row in names["compared"]}
    assert len(seen) == 10
    assert seen["windows", 4] == 100
    assert seen["localizer", 4] > seen["uniform", 4]

    assert [row["selector"] for row in names["after"]] == ["spoilt", "pre-trained", "refined", "uniform"]
    assert [row["iteration"] for row in names["logs"]["self_refinement"]] == [4, 8, 12]
    losses = [row["loss"] for row in names["logs"]["localizer_pretraining"]]
    assert losses[-1] < losses[0]
    assert any(isinstance(one, Image) for one in shown)  # the curves


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(notebook.name, "code"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_links_of_a_notebook_lead_to_files(notebook: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in cells(notebook.name, "markdown"))
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (notebook.parent / link).is_file()] == []
