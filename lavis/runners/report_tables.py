"""The published figures and how each is measured again, as `benchmarks/paper_tables.yaml` lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis.common.config import from_mapping, load_yaml
from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.paths import configs_dir

PLACEHOLDER = "BENCHMARK"


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
        return config_path(self.config.replace(PLACEHOLDER, benchmark))

    def options_of(self, benchmark: str) -> list[str]:
        """Return the options for a benchmark."""
        return [option.replace(PLACEHOLDER, benchmark) for option in self.options]

    def training_of(self, benchmark: str) -> list[tuple[Path, list[str]]]:
        """Return configuration and options of each training run."""
        words = [run.replace(PLACEHOLDER, benchmark).split() for run in self.trained_by]
        return [(config_path(config), options) for config, *options in words]


@dataclass(frozen=True)
class Row:
    """One system in one table: its published figures in percent, by benchmark and figure."""

    name: str
    recipe: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        unverified: what of its figures could not be compared with the publication; None if all could.
    """

    title: str
    rows: tuple[Row, ...]
    unverified: str | None = None


@dataclass(frozen=True)
class PaperTables:
    """Everything that was published and can be measured again.

    Attributes:
        checked: how the figures were compared with the publication.
    """

    benchmarks: Mapping[str, Benchmark]
    recipes: Mapping[str, Recipe]
    tables: tuple[Table, ...]
    checked: str = ""


def config_path(name: str) -> Path:
    """Return where a configuration lies that is named as in a checkout, "configs/...": a wheel holds them elsewhere."""
    return configs_dir().joinpath(*Path(name).parts[1:])


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
    tables = tuple(
        from_mapping(Table, entry, place=f"{path}: tables[{number}]") for number, entry in enumerate(content["tables"])
    )
    for row in (row for table in tables for row in table.rows):
        _check(path, row, benchmarks, recipes)
    return PaperTables(benchmarks, recipes, tables, str(content.get("checked") or ""))


def _check(path: Path, row: Row, benchmarks: Mapping[str, Benchmark], recipes: Mapping[str, Recipe]) -> None:
    if row.recipe not in recipes:
        raise ConfigError(f"{path}: row {row.name!r} names {row.recipe!r}; {did_you_mean(row.recipe, recipes)}")
    for benchmark, figures in row.figures.items():
        if benchmark not in benchmarks:
            raise ConfigError(f"{path}: row {row.name!r}: {benchmark!r}; {did_you_mean(benchmark, benchmarks)}")
        for figure in figures:
            known = benchmarks[benchmark].figures
            if figure not in known:
                raise ConfigError(f"{path}: row {row.name!r}: {benchmark}.{figure}; {did_you_mean(figure, known)}")
