"""Evaluations beside the published figures: which run measures which row, and what must be known of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lavis.common.config import load_yaml
from lavis.common.errors import UserError
from lavis.common.naming import did_you_mean
from lavis.common.paths import configs_dir
from lavis.models.sevila.config import size_names
from lavis.runners.config import EvaluationConfig, load_evaluation_config, task_of
from lavis.runners.evaluation.results import FACTS, METRICS
from lavis.runners.report_tables import Benchmark, PaperTables, Recipe, Row

PARTIAL = "partial"
_RUN_KEYS = ("dataset", "split", "model", "weights", "finetuned", "frames", "questions", "unreadable")


@dataclass(frozen=True)
class Run:
    """A finished evaluation: its folder, what it wrote to `metrics.json`, and when."""

    folder: Path
    metrics: Mapping[str, Any]
    finished: float

    @property
    def recipe(self) -> str | None:
        """The recipe that it says it measures."""
        return self.metrics.get("recipe")


@dataclass(frozen=True)
class Cell:
    """One published figure and what was measured.

    Attributes:
        paper: percent.
        measured: percent; None if nothing was run, or the run has no such figure.
        run: folder of the run that is shown; None if there is none.
        deviations: why what was measured is not the row's figure; empty if it is.
        remarks: what else must be known of the run.
        questions: how many were counted.
        unreadable: how many of them could not be read, and count as wrong.
    """

    table: str
    row: str
    recipe: str
    benchmark: str
    figure: str
    paper: float
    measured: float | None = None
    run: str | None = None
    deviations: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    questions: int | None = None
    unreadable: int | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in points; None where the two cannot be compared."""
        return None if self.measured is None or self.deviations else self.measured - self.paper


@dataclass(frozen=True)
class Report:
    """All cells, and the runs that are not in them.

    Attributes:
        others: folder and reason of every finished run that no cell shows.
        unfinished: folders of evaluations that have not finished.
    """

    tables: PaperTables
    cells: tuple[Cell, ...]
    others: Mapping[str, str]
    unfinished: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "cells": [{**asdict(cell), "difference": cell.difference} for cell in self.cells],
            "averages": {entry.name: entry.average for entry in self.tables.benchmarks.values()},
            "checked": self.tables.checked,
            "unverified": {
                **{entry.name: entry.unverified for entry in self.tables.benchmarks.values() if entry.unverified},
                **{table.title: table.unverified for table in self.tables.tables if table.unverified},
            },
            "other_runs": dict(self.others),
            "unfinished_runs": list(self.unfinished),
        }


def make_report(tables: PaperTables, folder: Path) -> Report:
    """Find all evaluations in a folder and set them beside the published figures.

    Raises:
        UserError: there is no such folder, or a `metrics.json` in it is damaged.
    """
    runs = list(_finished(folder))
    shown: set[Path] = set()
    cells: list[Cell] = []
    for table in tables.tables:
        for row in table.rows:
            for benchmark, figures in row.figures.items():
                run = _best(runs, tables, row, benchmark)
                if run is not None:
                    shown.add(run.folder)
                cells += [
                    _cell(tables, table.title, row, benchmark, figure, float(paper), run)
                    for figure, paper in figures.items()
                ]
    others = {str(run.folder): _why_not_shown(run, tables) for run in runs if run.folder not in shown}
    return Report(tables, tuple(cells), others, tuple(_unfinished(folder)))


def _finished(folder: Path) -> Iterator[Run]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder that holds the evaluations' output folders")
    for file in sorted(folder.rglob(METRICS)):
        if _goes_on(file.parent):
            continue
        try:
            metrics = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file} cannot be read ({error}); evaluate again, or move it away") from error
        if isinstance(metrics, dict) and all(key in metrics for key in _RUN_KEYS):
            yield Run(file.parent, metrics, file.stat().st_mtime)


def _unfinished(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob(FACTS)):
        if not (file.parent / METRICS).is_file() or _goes_on(file.parent):
            yield str(file.parent)


def _goes_on(folder: Path) -> bool:
    """Say whether an evaluation was started again: its figures are then those of an earlier one."""
    return (folder / PARTIAL).is_dir()


def _best(runs: Sequence[Run], tables: PaperTables, row: Row, benchmark: str) -> Run | None:
    """Return the newest run of a row; one that does not deviate goes before all that do."""
    dataset = tables.benchmarks[benchmark].dataset or benchmark
    fitting = [run for run in runs if run.recipe == row.recipe and run.metrics["dataset"] == dataset]
    recipe, about = tables.recipes[row.recipe], tables.benchmarks[benchmark]
    return max(
        fitting, key=lambda run: (not deviations(run, recipe, about, benchmark=benchmark), run.finished), default=None
    )


def _cell(
    tables: PaperTables, table: str, row: Row, benchmark: str, figure: str, paper: float, run: Run | None
) -> Cell:
    about, recipe = tables.benchmarks[benchmark], tables.recipes[row.recipe]
    if run is None:
        remarks = (f"needs {recipe.needs}",) if recipe.needs else ()
        return Cell(table, row.name, row.recipe, about.name, figure, paper, remarks=remarks)
    measured = _at(run.metrics, about.figures[figure])
    found = deviations(run, recipe, about, benchmark=benchmark)
    return Cell(
        table,
        row.name,
        row.recipe,
        about.name,
        figure,
        paper,
        measured=measured,
        run=str(run.folder),
        deviations=found if measured is not None else (*found, "the run has no such figure"),
        remarks=tuple(_remarks(run)),
        questions=run.metrics["questions"],
        unreadable=run.metrics["unreadable"],
    )


def _at(metrics: Mapping[str, Any], place: Sequence[str]) -> float | None:
    value: Any = metrics
    for key in place:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def deviations(run: Run, recipe: Recipe, about: Benchmark, *, benchmark: str) -> tuple[str, ...]:
    """Say what keeps a run's figures from being those of a row, most telling first."""
    metrics = run.metrics
    found = ["untrained weights"] if metrics["weights"].get("status") == "untrained" else []
    if about.questions is not None and metrics["questions"] != about.questions:
        subset = "a part of the split: " if metrics["questions"] < about.questions else ""
        found.append(f"{subset}{metrics['questions']} questions, not {about.questions}")
    wanted = _expected(recipe.config_of(benchmark), tuple(recipe.options_of(benchmark)))
    had = {**metrics["frames"], "model": metrics["model"], "split": metrics["split"]}
    found += [f"{name} {had.get(name)}, not {value}" for name, value in wanted.items() if had.get(name) != value]
    if any(option.startswith("model.finetuned=") for option in recipe.options) and not metrics["finetuned"]:
        found.append("no trained weights laid over the model")
    return tuple(found)


def _remarks(run: Run) -> Iterator[str]:
    metrics = run.metrics
    if metrics["unreadable"]:
        yield f"{metrics['unreadable']} unreadable questions count as wrong"
    if metrics.get("without_answer"):
        yield f"{metrics['without_answer']} questions without annotated answer are left out"
    if metrics.get("cut"):
        yield f"{metrics['cut']} prompts were cut"
    if metrics.get("unspelt"):
        yield f"{metrics['unspelt']} questions hold text that the model cannot spell"
    if metrics["finetuned"]:
        yield f"weights {', '.join(metrics['finetuned'])}"


@cache
def _expected(config: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Return what a recipe's run says of itself, as far as its figures depend on it."""
    evaluation: EvaluationConfig = load_evaluation_config(config, options=options)
    base, task = evaluation.base, task_of(evaluation.base)
    searches = base.dataset.prompt == "moment"
    expected: dict[str, Any] = {
        "model": _model_name(base.model.model_type),
        "split": evaluation.split,
        "num_frames": base.dataset.vis_processor.eval.n_frms,
    }
    if not searches:  # moments are read from all frames, whatever an answer would be read from
        expected |= {"selector": task.selector, "reader": task.reader, "keyframes": task.keyframes}
        expected |= {"frame_num": base.model.frame_num} if task.keyframes == "frame_num" else {}
    return expected


def _model_name(model_type: str) -> str:
    if model_type not in size_names():
        return model_type
    return str(load_yaml(configs_dir() / "models" / f"sevila_{model_type}.yaml")["name"])


def _why_not_shown(run: Run, tables: PaperTables) -> str:
    what = f"{run.metrics['dataset']} {run.metrics['split']}, {run.metrics['questions']} questions"
    if run.recipe is None:
        return f"{what}: names no row; evaluate with run.recipe=NAME"
    if run.recipe not in tables.recipes:
        return f"{what}: unknown run.recipe {run.recipe!r}; {did_you_mean(run.recipe, tables.recipes)}"
    benchmarks = {
        tables.benchmarks[name].dataset or name
        for table in tables.tables
        for row in table.rows
        if row.recipe == run.recipe
        for name in row.figures
    }
    if run.metrics["dataset"] not in benchmarks:
        return f"{what}: {run.recipe} has no published figure on it"
    return f"{what}: {run.recipe}; another run of it is shown"
