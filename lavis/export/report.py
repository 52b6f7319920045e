"""Evaluations beside the published figures: the paper's tables, which run measures which row, and the page of both."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lavis.common.config import from_mapping, load_yaml
from lavis.common.errors import ConfigError, UserError, counted, did_you_mean
from lavis.common.files import configs_dir

# In the folder of an evaluation: its figures, what it was configured by, and predictions while it goes on.
_METRICS, _FACTS, _PARTIAL = "metrics.json", "evaluation.json", "partial"
_RUN_KEYS = ("dataset", "split", "model", "weights", "finetuned", "frames", "questions", "unreadable")
# Entries of `metrics.json` that must be known, where they are not 0.
_COUNTS = {
    "unreadable": "unreadable questions count as wrong",
    "without_answer": "questions without annotated answer are left out",
    "cut": "prompts were cut",
    "unspelt": "questions hold text that the model cannot spell",
}
_PLACEHOLDER = "BENCHMARK"
_LEGEND = (
    "Percent; differences in points. A figure in parentheses was measured under other conditions than the row's, "
    "which the last column names: it is not compared. * Questions were unreadable, and count as wrong."
)
_HEADER = ("system", "benchmark", "figure", "paper", "measured", "difference", "questions", "unreadable", "remarks")
_NUMBERS = range(3, 8)

Expected = Callable[[Path, tuple[str, ...]], Mapping[str, Any]]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        split: the split that was published on.
        questions: how many questions it has; None where that was not published.
        average: what kind of average its figures are.
        figures: for each figure its place in `metrics.json`, as a list of keys.
        dataset: the dataset's name in configurations, where it is not the benchmark's.
        unverified: what of this could not be compared with the publication; None if all of it could.
    """

    name: str
    split: str
    questions: int | None
    average: str
    figures: dict[str, Any]
    dataset: str | None = None
    unverified: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How a row is measured; "BENCHMARK" in it stands for the benchmark's name.

    Attributes:
        config: an evaluation's configuration, relative to the checkout.
        options: dotted options over it.
        trained_by: training runs that make the weights, each a configuration and its options.
        needs: what does not exist yet; None if the recipe can be run.
    """

    config: str
    options: tuple[str, ...] = ()
    trained_by: tuple[str, ...] = ()
    needs: str | None = None

    def config_of(self, benchmark: str) -> Path:
        """Return where the configuration lies."""
        # It is named as in a checkout, "configs/..."; a wheel holds it elsewhere.
        return configs_dir().joinpath(*Path(self.config.replace(_PLACEHOLDER, benchmark)).parts[1:])

    def options_of(self, benchmark: str) -> list[str]:
        """Return the options for a benchmark."""
        return [option.replace(_PLACEHOLDER, benchmark) for option in self.options]


@dataclass(frozen=True)
class Row:
    """One system in one table: its published figures in percent, by benchmark and figure."""

    name: str
    recipe: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One table of the paper, and what of its figures could not be compared with the publication."""

    title: str
    rows: tuple[Row, ...]
    unverified: str | None = None


@dataclass(frozen=True)
class PaperTables:
    """Everything that was published and can be measured again, and what can be measured beside it.

    Attributes:
        checked: how the figures were compared with the publication.
        unpublished: tables of systems of which nothing was published; their figures are None, and they are shown
            where they were measured.
    """

    benchmarks: Mapping[str, Benchmark]
    recipes: Mapping[str, Recipe]
    tables: tuple[Table, ...]
    checked: str = ""
    unpublished: tuple[Table, ...] = ()

    def rows(self) -> Iterator[tuple[Table, Row]]:
        """Yield every row with its table."""
        return ((table, row) for table in (*self.tables, *self.unpublished) for row in table.rows)

    def dataset(self, benchmark: str) -> str:
        """Return a benchmark's name in configurations."""
        return self.benchmarks[benchmark].dataset or benchmark


def load_paper_tables(path: Path) -> PaperTables:
    """Read the published figures.

    Raises:
        ConfigError: the file is missing, or a row names a recipe, benchmark or figure that it does not define.
    """
    content = load_yaml(path)
    for section in ("benchmarks", "recipes", "tables"):
        if not content.get(section):
            raise ConfigError(f"{path}: the section {section!r} is missing")
    benchmarks = {
        name: from_mapping(Benchmark, entry, place=f"{path}: benchmarks.{name}")
        for name, entry in content["benchmarks"].items()
    }
    recipes = {
        name: from_mapping(Recipe, entry, place=f"{path}: recipes.{name}") for name, entry in content["recipes"].items()
    }
    published, unpublished = (
        tuple(
            from_mapping(Table, entry, place=f"{path}: {section}[{number}]")
            for number, entry in enumerate(content.get(section) or [])
        )
        for section in ("tables", "unpublished")
    )
    tables = PaperTables(benchmarks, recipes, published, str(content.get("checked") or ""), unpublished)
    for _, row in tables.rows():
        if row.recipe not in recipes:
            raise ConfigError(f"{path}: row {row.name!r} names {row.recipe!r}; {did_you_mean(row.recipe, recipes)}")
        for benchmark, figures in row.figures.items():
            if benchmark not in benchmarks:
                raise ConfigError(f"{path}: row {row.name!r}: {benchmark!r}; {did_you_mean(benchmark, benchmarks)}")
            known = benchmarks[benchmark].figures
            for figure in (figure for figure in figures if figure not in known):
                raise ConfigError(f"{path}: row {row.name!r}: {benchmark}.{figure}; {did_you_mean(figure, known)}")
    return tables


@dataclass(frozen=True)
class Run:
    """A finished evaluation: its folder, what it wrote to `metrics.json`, and when."""

    folder: Path
    metrics: Mapping[str, Any]
    finished: float

    def figure(self, place: Sequence[str]) -> float | None:
        """Return a figure by the keys that lead to it; None if the run has no such figure."""
        value: Any = self.metrics
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, (int, float)) else None

    def remarks(self) -> Iterator[str]:
        """Yield what must be known of its figures."""
        for count, what in _COUNTS.items():
            if self.metrics.get(count):
                yield f"{self.metrics[count]} {what}"
        if self.metrics["finetuned"]:
            yield f"weights {', '.join(self.metrics['finetuned'])}"


@dataclass(frozen=True)
class Cell:
    """One published figure and what was measured.

    Attributes:
        paper: percent; None where nothing was published.
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
    paper: float | None
    measured: float | None = None
    run: str | None = None
    deviations: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    questions: int | None = None
    unreadable: int | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in points; None where the two cannot be compared."""
        if self.measured is None or self.paper is None or self.deviations:
            return None
        return self.measured - self.paper

    @property
    def paper_text(self) -> str:
        """The published figure, or a dash."""
        return "-" if self.paper is None else f"{self.paper:.1f}"

    @property
    def measured_text(self) -> str:
        """The measured figure: in parentheses if it is not the row's, with a star if videos were unreadable."""
        if self.measured is None:
            return "not run" if self.run is None else "-"
        figure = f"{self.measured:.1f}{'*' if self.unreadable else ''}"
        return f"({figure})" if self.deviations else figure

    @property
    def difference_text(self) -> str:
        """The difference with its sign, or nothing."""
        return "" if self.difference is None else f"{self.difference:+.1f}"


@dataclass(frozen=True)
class Report:
    """All cells; of the runs that no cell shows folder and reason, and the folders of those that have not finished."""

    tables: PaperTables
    cells: tuple[Cell, ...]
    others: Mapping[str, str]
    unfinished: tuple[str, ...]

    @property
    def has_runs(self) -> bool:
        """Whether any evaluation has finished."""
        return bool(self.others) or any(cell.run for cell in self.cells)

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


def make_report(tables: PaperTables, folder: Path, *, expected: Expected) -> Report:
    """Find all evaluations in a folder and set them beside the published figures.

    Args:
        expected: for the configuration and options of a recipe, what its run says of itself, as far as figures depend
            on it: model, split, and entries of `frames`.

    Raises:
        UserError: there is no such folder, or a `metrics.json` in it is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder that holds the evaluations' output folders")
    runs, unfinished = _evaluations(folder)
    cells: list[Cell] = []
    for table, row in tables.rows():
        for benchmark, figures in row.figures.items():
            about, recipe = tables.benchmarks[benchmark], tables.recipes[row.recipe]
            how = recipe.config_of(benchmark), tuple(recipe.options_of(benchmark))
            fitting = [
                (run, _deviations(run, recipe, about, expected(*how)))
                for run in runs
                if run.metrics.get("recipe") == row.recipe and run.metrics["dataset"] == tables.dataset(benchmark)
            ]
            # The newest; one that does not deviate goes before all that do.
            best = max(fitting, key=lambda entry: (not entry[1], entry[0].finished), default=None)
            for figure, paper in figures.items():
                cell = Cell(table.title, row.name, row.recipe, about.name, figure, paper)
                needs = (f"needs {recipe.needs}",) if recipe.needs else ()
                if best or paper is not None:
                    cells.append(_filled(cell, *best, about) if best else replace(cell, remarks=needs))
    shown = {cell.run for cell in cells}
    others = {str(run.folder): _why_not_shown(run, tables) for run in runs if str(run.folder) not in shown}
    return Report(tables, tuple(cells), others, tuple(unfinished))


def _evaluations(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the finished evaluations in a folder, and the folders of those that are not."""
    runs, unfinished = [], []
    for place in sorted({file.parent for name in (_METRICS, _FACTS) for file in folder.rglob(name)}):
        file = place / _METRICS
        # One that was started again still has the figures of before.
        if (place / _PARTIAL).is_dir() or not file.is_file():
            unfinished += [str(place)] if (place / _FACTS).is_file() else []
            continue
        try:
            metrics = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file} cannot be read ({error}); evaluate again, or move it away") from error
        if isinstance(metrics, dict) and all(key in metrics for key in _RUN_KEYS):
            runs.append(Run(place, metrics, file.stat().st_mtime))
    return runs, unfinished


def _deviations(run: Run, recipe: Recipe, about: Benchmark, wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what keeps a run's figures from being those of a row, most telling first."""
    metrics = run.metrics
    found = ["untrained weights"] if metrics["weights"].get("status") == "untrained" else []
    if about.questions is not None and metrics["questions"] != about.questions:
        subset = "a part of the split: " if metrics["questions"] < about.questions else ""
        found.append(f"{subset}{counted(metrics['questions'], 'question')}, not {about.questions}")
    had = {**metrics["frames"], "model": metrics["model"], "split": metrics["split"]}
    found += [f"{name} {had.get(name)}, not {value}" for name, value in wanted.items() if had.get(name) != value]
    if any(option.startswith("model.finetuned=") for option in recipe.options) and not metrics["finetuned"]:
        found.append("no trained weights laid over the model")
    return tuple(found)


def _filled(cell: Cell, run: Run, deviations: tuple[str, ...], about: Benchmark) -> Cell:
    measured = run.figure(about.figures[cell.figure])
    return replace(
        cell,
        measured=measured,
        run=str(run.folder),
        deviations=deviations if measured is not None else (*deviations, "the run has no such figure"),
        remarks=tuple(run.remarks()),
        questions=run.metrics["questions"],
        unreadable=run.metrics["unreadable"],
    )


def _why_not_shown(run: Run, tables: PaperTables) -> str:
    recipe, dataset = run.metrics.get("recipe"), run.metrics["dataset"]
    what = f"{dataset} {run.metrics['split']}, {counted(run.metrics['questions'], 'question')}"
    if recipe is None:
        return f"{what}: names no row; evaluate with run.recipe=NAME"
    if recipe not in tables.recipes:
        return f"{what}: unknown run.recipe {recipe!r}; {did_you_mean(recipe, tables.recipes)}"
    benchmarks = {name for _, row in tables.rows() if row.recipe == recipe for name in row.figures}
    if dataset not in map(tables.dataset, benchmarks):
        return f"{what}: {recipe} has no published figure on it"
    return f"{what}: {recipe}; another run of it is shown"


def markdown(report: Report, *, every: bool = False) -> str:
    """Return the report as a page of Markdown, which is readable in a terminal too.

    Tables and rows that were measured come first; `every` shows those too that were not.
    """
    benchmarks = report.tables.benchmarks.values()
    averages: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        averages.setdefault(benchmark.average, []).append(benchmark.name)
    kinds = "; ".join(f"{', '.join(names)}: {kind}" for kind, names in averages.items())
    sections = ["# Published and measured figures", _LEGEND, f"Averages: {kinds}."]
    if report.tables.checked:
        sections.append(report.tables.checked)
    doubts = [f"{benchmark.name}: {benchmark.unverified}" for benchmark in benchmarks if benchmark.unverified]
    if doubts:
        sections.append("Not verified:\n" + _list(doubts))
    unverified = {table.title: table.unverified for table, _ in report.tables.rows()}
    for title, cells in groupby(_shown(report.cells, every=every), key=lambda cell: cell.table):
        sections += [f"## {title}", *([f"Not verified: {unverified[title]}."] if unverified[title] else [])]
        sections.append(_table(list(_lines(cells))))
    missing = 0 if every else sum(cell.run is None for cell in report.cells)
    if missing:
        sections.append(f"{counted(missing, 'published figure')} not measured: sevila report RUNS_DIR --all")
    if report.others:
        sections += ["## Runs that are not shown above", _list(f"{run}: {why}" for run, why in report.others.items())]
    if report.unfinished:
        sections += ["## Unfinished runs (the same command goes on)", _list(report.unfinished)]
    return "\n\n".join(sections) + "\n"


def _shown(cells: Sequence[Cell], *, every: bool) -> list[Cell]:
    """Return cells that are shown, by table: tables with a run first, and in each of them the rows with a run."""
    measured = {cell.table for cell in cells if cell.run}
    place = {table: number for number, table in enumerate(dict.fromkeys(cell.table for cell in cells))}
    shown = [cell for cell in cells if every or cell.run]
    return sorted(shown, key=lambda cell: (cell.table not in measured, place[cell.table], cell.run is None))


def _lines(cells: Iterator[Cell]) -> Iterator[tuple[str, ...]]:
    """Yield the columns of each cell; remarks that the figure above has too are left out."""
    for _, figures in groupby(cells, key=lambda cell: (cell.row, cell.benchmark)):
        before: tuple[str, ...] = ()
        for cell in figures:
            remarks = (*cell.deviations, *cell.remarks)
            counts = ("" if count is None else str(count) for count in (cell.questions, cell.unreadable))
            measured = (cell.paper_text, cell.measured_text, cell.difference_text)
            told = "" if remarks == before else "; ".join(remarks)
            yield (cell.row, cell.benchmark, cell.figure, *measured, *counts, told)
            before = remarks


def _table(rows: Sequence[Sequence[str]]) -> str:
    columns = []
    for number, texts in enumerate(zip(_HEADER, *rows, strict=True)):
        head, *cells = (text.replace("|", "\\|") for text in texts)
        width = max(map(len, (head, *cells)))
        rule, aligned = (f"{'-' * (width - 1)}:", str.rjust) if number in _NUMBERS else ("-" * width, str.ljust)
        columns.append([aligned(text, width) for text in (head, rule, *cells)])
    return "\n".join("| " + " | ".join(row) + " |" for row in zip(*columns, strict=True))


def _list(entries: Iterable[str]) -> str:
    return "\n".join(f"* {entry}" for entry in entries)
