import re
from pathlib import Path

import pytest

from lavis.common.errors import ConfigError
from lavis.common.files import paper_tables_path
from lavis.export.report import PaperTables, load_paper_tables
from lavis.runners.config import load_evaluation_config, load_train_config

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = load_paper_tables(paper_tables_path())
MEASURED = sorted({(row.recipe, benchmark) for _, row in PUBLISHED.rows() for benchmark in row.figures})
DATASETS = {name: entry.dataset or name for name, entry in PUBLISHED.benchmarks.items()}


# As they are printed in the paper, in its order of columns.
PRINTED = [
    (
        "Table 1",
        {
            "BLIP-2 voting": "65.2/70.1/80.1/70.1 | 52.3/54.8/49.0/51.2/51.8 | 79.6 | 54.5 | 67.0",
            "BLIP-2 concat": "68.1/72.9/81.2/72.6 | 65.4/69.0/59.7/54.2/62.0 | 82.2 | 59.8 | 68.6",
            "SeViLA without self-refinement": "68.8/73.4/83.5/73.4 | 63.2/66.6/61.3/60.0/62.7 | 83.7 | 59.7 | 69.0",
            "SeViLA": "69.4/74.2/81.3/73.8 | 63.7/70.4/63.1/62.4/64.9 | 83.6 | 61.6 | 68.9",
        },
    ),
    (
        "Table 2",
        {
            "BLIP-2 voting, 4 frames": "59.1/61.3/74.9/62.7 | 41.8/39.7/40.2/39.5/40.3 | 69.8 | 35.7 | 63.8",
            "BLIP-2 concat, 4 uniform frames": ("59.7/60.8/73.8/62.4 | 45.5/41.8/41.8/40.0/42.2 | 70.8 | 36.6 | 64.0"),
            "SeViLA, pre-trained Localizer": "61.3/61.5/75.6/63.6 | 48.3/45.0/44.4/40.8/44.6 | 72.3 | 38.2 | 64.4",
        },
    ),
    ("Table 4", {"SeViLA Localizer": "54.5/36.5/32.3"}),
    (
        "Table 5",
        {
            "neither": "60.4/61.0/74.6/62.9 | 70.7",
            "pre-trained": "61.3/61.5/75.6/63.6 | 72.3",
            "refined": "62.1/62.6/75.1/64.3 | 72.8",
            "pre-trained and refined": "62.3/63.1/74.9/64.6 | 72.9",
        },
    ),
    (
        "Table 6",
        {
            "uniform": "62.4",
            "CLIP": "59.2/60.0/72.5/61.8",
            "Moment-DETR": "59.5/60.6/72.1/62.0",
            "pre-trained Localizer": "61.3/61.5/75.6/63.6",
            "ATP, fine-tuned": "60.4/61.3/73.4/62.8",
            "differentiable top-K, fine-tuned": "59.5/59.7/72.7/61.6",
            "refined Localizer": "62.3/63.1/74.9/64.6",
        },
    ),
    (
        "Table 7",
        {
            "BLIP-2 voting, 8 frames": "59.9/60.2/72.4/62.0 | 69.8",
            "8 frames, 1 keyframe": "59.8/61.1/76.0/62.9 | 72.4",
            "16 frames, 1 keyframe": "59.2/62.6/74.9/63.4 | 73.2",
            "16 frames, 4 keyframes": "60.7/61.5/75.8/63.4 | 72.4",
            "32 frames, 4 keyframes": "61.3/61.5/75.6/63.6 | 72.3",
            "32 frames, 8 keyframes": "59.4/60.9/74.7/62.5 | 71.3",
            "64 frames, 8 keyframes": "58.9/60.9/74.0/62.2 | 71.8",
        },
    ),
    (
        "Table 8",
        {
            "trained on random frames, reads uniform ones": "68.1/72.9/81.2/72.6",
            "trained on random frames, reads keyframes": "67.6/73.4/84.0/73.1",
            "trained on keyframes, reads uniform ones": "68.2/72.7/80.0/72.3",
            "trained on keyframes, reads keyframes": "68.8/73.4/83.5/73.4",
        },
    ),
    (
        "Table 9",
        {
            "BLIP-2 voting, zero-shot": "62.7/70.1 | 40.3/52.9 | 69.8/77.8 | 35.7/45.4 | 63.8/70.5",
            "BLIP-2 voting, fine-tuned": "70.1/79.7 | 51.8/72.2 | 79.6/86.4 | 54.5/69.0 | 67.0/79.1",
        },
    ),
    (
        "Table 12",
        {
            "1 frame, zero-shot Answerer": "64.6",
            "4 frames, zero-shot Answerer": "63.6",
            "1 frame, fine-tuned Answerer": "73.4",
            "4 frames, fine-tuned Answerer": "71.3",
        },
    ),
    (
        "Table 13",
        {
            "no Localizer, uniform frames": "62.4",
            "Moment-DETR": "62.0",
            "nothing": "62.9",
            "the speech of QVHighlights (weakly)": "63.2",
            "QVHighlights": "63.6",
        },
    ),
    ("Table 14", {"1 round": "73.8", "2 rounds": "74.2", "3 rounds": "73.7"}),
    ("NExT-GQA", {"SeViLA, fine-tuned": "68.1/16.6/29.5/21.7"}),
]


def figures(tables: PaperTables, table: str) -> dict[str, str]:
    """Figures of each row as one line, benchmarks apart."""
    (found,) = [entry for entry in tables.tables if entry.title.partition(",")[0].partition(":")[0] == table]
    return {
        row.name: " | ".join("/".join(str(value) for value in cells.values()) for cells in row.figures.values())
        for row in found.rows
    }


@pytest.mark.parametrize(("table", "printed"), PRINTED)
def test_the_published_figures_are_all_there(table: str, printed: dict[str, str]) -> None:
    assert figures(PUBLISHED, table) == printed


def test_table_3_repeats_rows_of_the_others_and_adds_two() -> None:
    listed = figures(PUBLISHED, "Table 3")
    assert listed["BLIP-2 concat, 32 uniform frames"] == (
        "54.7/56.7/67.8/57.7 | 46.2/43.6/40.7/41.0/42.8 | 67.0 | 33.2 | 54.0"
    )
    assert listed["SeViLA, refined Localizer"] == "62.3/63.1/74.9/64.6 | 49.0/46.4/45.2/41.6/45.5 | 72.9 | 39.1 | 64.6"
    others = {**figures(PUBLISHED, "Table 1"), **figures(PUBLISHED, "Table 2")}
    assert sum(line in others.values() for line in listed.values()) == 5


def cells_of(benchmark: str) -> list[dict[str, float]]:
    """Figures of every row that has some for this benchmark."""
    return [row.figures[benchmark] for table in PUBLISHED.tables for row in table.rows if benchmark in row.figures]


def test_stars_published_average_is_that_of_its_types() -> None:
    rows = [cells for cells in cells_of("star") if "Int" in cells]
    assert len(rows) == 14
    for cells in rows:
        *types, average = cells.values()
        assert sum(types) / 4 == pytest.approx(average, abs=0.15)


def test_nextqas_published_average_counts_every_question_the_same() -> None:
    # Questions of each group in the released validation split.
    sizes = {"Tem": 1612, "Cau": 2607, "Des": 777}
    assert sum(sizes.values()) == PUBLISHED.benchmarks["nextqa"].questions
    rows = [cells for cells in cells_of("nextqa") if "Tem" in cells]
    assert len(rows) == 35
    for cells in rows:
        weighted = sum(cells[group] * size for group, size in sizes.items()) / 4996
        assert weighted == pytest.approx(cells["Avg"], abs=0.12)


def test_what_could_not_be_verified_is_said() -> None:
    assert {name for name, entry in PUBLISHED.benchmarks.items() if entry.unverified} == {"star", "how2qa", "tvqa"}
    doubtful = {table.title.partition(",")[0].partition(":")[0] for table in PUBLISHED.tables if table.unverified}
    assert doubtful == {"Table 6", "NExT-GQA"}
    assert "a transcription of the paper's tables" in PUBLISHED.checked


def test_every_table_of_the_paper_is_there_in_its_order() -> None:
    numbers = [re.match(r"Table (\d+)", table.title) for table in PUBLISHED.tables]
    assert [int(found[1]) for found in numbers if found] == [*range(1, 10), 12, 13, 14]


def test_a_figure_that_stands_in_several_tables_is_the_same_in_all() -> None:
    seen: dict[tuple[str, str, str], float] = {}
    for row in (row for table in PUBLISHED.tables for row in table.rows):
        for benchmark, cells in row.figures.items():
            for figure, value in cells.items():
                assert seen.setdefault((row.recipe, benchmark, figure), value) == value


@pytest.mark.parametrize(("recipe", "benchmark"), MEASURED)
def test_every_row_has_a_recipe_that_fits_the_schema(recipe: str, benchmark: str) -> None:
    how = PUBLISHED.recipes[recipe]
    config = load_evaluation_config(how.config_of(benchmark), options=how.options_of(benchmark))
    assert config.base.dataset_name == DATASETS[benchmark]
    assert config.split == PUBLISHED.benchmarks[benchmark].split
    trained_by = [run.replace("BENCHMARK", benchmark).split() for run in how.trained_by]
    outputs = [load_train_config(ROOT / path, options=options).run.output_dir for path, *options in trained_by]
    # Weights come from the folder that the last training run writes to.
    named = ("model.finetuned=", "model.selector=")
    weights = [option for option in how.options_of(benchmark) if option.startswith(named)]
    assert not outputs or any(f"{outputs[-1]}/" in option for option in weights)


def test_rows_that_need_what_is_not_there_are_marked() -> None:
    assert {name for name, how in PUBLISHED.recipes.items() if how.needs} == {
        "keyframes_by_moment_detr",
        *("localizer_weakly_trained", "localizer_multi_frame", "localizer_multi_frame_finetuned"),
    }


def test_every_recipe_measures_a_row() -> None:
    assert {recipe for recipe, _ in MEASURED} == set(PUBLISHED.recipes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("recipe: qvh_localizer", "recipe: qvh_localiser", "names 'qvh_localiser'; did you mean 'qvh_localizer'?"),
        ("        qvh: {R1", "        qvg: {R1", "'qvg'; did you mean 'qvh'?"),
        ("{Avg: 54.5}", "{Agv: 54.5}", "tvqa.Agv; did you mean 'Avg'?"),
        ("recipes:\n", "recipies:\n", "the section 'recipes' is missing"),
        ("    split: test\n", "    splitt: test\n", "unknown key 'splitt'; did you mean 'split'?"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = paper_tables_path().read_text()
    assert old in text
    (tmp_path / "tables.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_paper_tables(tmp_path / "tables.yaml")
