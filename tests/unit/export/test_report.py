import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lavis.cli.runs import expected_facts
from lavis.common.errors import UserError
from lavis.common.files import paper_tables_path
from lavis.export.pictures import report_picture, summaries
from lavis.export.report import Cell, Report, load_paper_tables, make_report, markdown
from tests.timing import cpu_seconds_at_most
from tests.unit.export.runs import accuracy, write_run


def report(folder: Path) -> Report:
    return make_report(load_paper_tables(paper_tables_path()), folder, expected=expected_facts)


def cells(made: Report, *, row: str, benchmark: str, table: str = "Table 2: zero-shot") -> dict[str, Cell]:
    chosen = (cell for cell in made.cells if (cell.row, cell.benchmark, cell.table) == (row, benchmark, table))
    return {cell.figure: cell for cell in chosen}


SEVILA = {"row": "SeViLA, pre-trained Localizer", "benchmark": "NExT-QA"}


def test_a_run_is_set_beside_its_row(tmp_path: Path) -> None:
    write_run(tmp_path / "deep" / "run", overall=63.0)
    found = cells(report(tmp_path), **SEVILA)
    assert {name: (cell.paper, cell.measured) for name, cell in found.items()} == {
        "Tem": (61.3, 64.0), "Cau": (61.5, 65.0), "Des": (75.6, 66.0), "Avg": (63.6, 63.0),
    }  # fmt: skip
    assert found["Avg"].difference == pytest.approx(-0.6)
    assert (found["Avg"].questions, found["Avg"].unreadable, found["Avg"].deviations) == (4996, 0, ())


def test_a_run_fills_every_table_that_lists_its_recipe(tmp_path: Path) -> None:
    write_run(tmp_path / "run", overall=63.0)
    filled = {(cell.table, cell.row) for cell in report(tmp_path).cells if cell.measured is not None}
    assert filled == {
        ("Table 2: zero-shot", "SeViLA, pre-trained Localizer"),
        ("Table 3: frames, Localizer and fine-tuning", "SeViLA, pre-trained Localizer"),
        ("Table 5: pre-training and self-refinement of the Localizer (zero-shot)", "pre-trained"),
        ("Table 6: other ways to choose 4 keyframes (zero-shot Answerer)", "pre-trained Localizer"),
        ("Table 7: frames and keyframes (zero-shot)", "32 frames, 4 keyframes"),
        ("Table 13: what the Localizer is pre-trained on (zero-shot)", "QVHighlights"),
    }


def test_star_is_compared_by_the_mean_of_its_types(tmp_path: Path) -> None:
    write_run(tmp_path / "run", overall=50.0, dataset="star", questions=7098)
    found = cells(report(tmp_path), row="SeViLA, pre-trained Localizer", benchmark="STAR")
    assert {name: cell.measured for name, cell in found.items()} == {
        "Int": 54.0, "Seq": 55.0, "Pre": 56.0, "Fea": 57.0, "Avg": 45.0,
    }  # fmt: skip


def test_moments_are_compared_by_the_published_evaluator(tmp_path: Path) -> None:
    brief = {"MR-full-R1@0.5": 54.0, "MR-full-R1@0.7": 36.0, "MR-full-mAP": 32.0}
    moments = {"corrected": {"brief": dict.fromkeys(brief, 1.0)}, "published": {"brief": brief}}
    write_run(
        tmp_path / "run",
        **{"kind": "moments", "dataset": "qvh", "split": "test", "questions": 1542, "recipe": "qvh_localizer"},
        **{"moments": moments, "frames": {"num_frames": 75, "reader": "joint"}},
    )
    found = cells(report(tmp_path), row="SeViLA Localizer", benchmark="QVHighlights", table="Table 4: moment retrieval")
    assert {name: (cell.measured, cell.deviations) for name, cell in found.items()} == {
        "R1@0.5": (54.0, ()), "R1@0.7": (36.0, ()), "mAP": (32.0, ()),
    }  # fmt: skip


def test_grounding_is_compared_with_its_own_publication(tmp_path: Path) -> None:
    grounding = {"keyframes": {"Acc@QA": 68.0, "Acc@GQA": 16.0, "mIoP": 29.0, "mIoU": 21.0}}
    changes = {"recipe": "nextgqa_sevila", "split": "test", "questions": 5553, "finetuned": ["a", "b"]}
    write_run(tmp_path / "run", grounding=grounding, **changes)
    table = "NExT-GQA, measured by its authors (arXiv 2309.01327)"
    found = cells(report(tmp_path), row="SeViLA, fine-tuned", benchmark="NExT-GQA", table=table)
    assert {name: cell.difference for name, cell in found.items()} == pytest.approx(
        {"Acc@QA": -0.1, "Acc@GQA": -0.6, "mIoP": -0.5, "mIoU": -0.7}
    )


@pytest.mark.parametrize(
    ("changes", "deviation"),
    [
        ({"questions": 30}, "a part of the split: 30 questions, not 4996"),
        ({"questions": 5000}, "5000 questions, not 4996"),
        ({"weights": {"status": "untrained", "note": ""}}, "untrained weights"),
        ({"model": "sevila_tiny"}, "model sevila_tiny, not sevila_flant5xl"),
        ({"split": "train"}, "split train, not val"),
        ({"frames": {"num_frames": 8}}, "num_frames 8, not 32"),
        ({"frames": {"frame_num": 1}}, "frame_num 1, not 4"),
        ({"frames": {"selector": "uniform"}}, "selector uniform, not localizer"),
        ({"frames": {"reader": "per_frame"}}, "reader per_frame, not joint"),
    ],
)
def test_a_run_under_other_conditions_is_never_taken_for_the_row(
    tmp_path: Path, changes: dict[str, Any], deviation: str
) -> None:
    write_run(tmp_path / "run", overall=63.0, **changes)
    made = report(tmp_path)
    cell = cells(made, **SEVILA)["Avg"]
    assert (cell.measured, cell.difference, cell.deviations) == (63.0, None, (deviation,))
    (line,) = [line for line in markdown(made).split("\n") if "| Tem " in line and deviation in line][:1]
    assert "(64.0)" in line


def test_fine_tuned_rows_need_weights_laid_over_the_model(tmp_path: Path) -> None:
    write_run(tmp_path / "run", recipe="finetuned_sevila")
    (cell, *_) = [cell for cell in report(tmp_path).cells if cell.measured is not None]
    assert cell.deviations == ("no trained weights laid over the model",)
    write_run(tmp_path / "run", recipe="finetuned_sevila", finetuned=["x"])
    (cell, *_) = [cell for cell in report(tmp_path).cells if cell.measured is not None]
    assert (cell.deviations, cell.remarks) == ((), ("weights x",))


def test_unreadable_questions_are_shown_beside_the_figure(tmp_path: Path) -> None:
    write_run(tmp_path / "run", overall=63.0, unreadable=12)
    made = report(tmp_path)
    cell = cells(made, **SEVILA)["Avg"]
    assert cell.difference == pytest.approx(-0.6)
    assert (cell.unreadable, cell.remarks) == (12, ("12 unreadable questions count as wrong",))
    assert "63.0*" in markdown(made)


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    made = report(tmp_path)
    assert {(cell.measured, cell.run, cell.difference) for cell in made.cells} == {(None, None, None)}
    assert markdown(made, every=True).count("not run") == len(made.cells)
    assert "not run" not in markdown(made)
    assert f"{len(made.cells)} published figures not measured: sevila report RUNS_DIR --all" in markdown(made)
    assert not made.has_runs


def test_what_was_measured_comes_first(tmp_path: Path) -> None:
    write_run(tmp_path / "run", recipe="zeroshot_voting")
    made = report(tmp_path)
    assert made.has_runs
    pages = [[line for line in markdown(made, every=every).splitlines() if line] for every in (False, True)]
    tables = [[line for line in page if line.startswith("## ")] for page in pages]
    measured = {cell.table for cell in made.cells if cell.run}
    assert tables[0] == [f"## {title}" for title in tables_in_order(made) if title in measured]
    others = [f"## {title}" for title in tables_in_order(made) if title not in measured]
    assert tables[1] == [*tables[0], *others]
    for table in tables[1]:
        rows = pages[1][pages[1].index(table) :]
        rows = rows[: next((number for number, line in enumerate(rows[1:], 1) if line.startswith("## ")), None)]
        ran = ["not run" not in row for row in rows if row.startswith("| ")][2:]
        assert ran == sorted(ran, reverse=True)


def tables_in_order(made: Report) -> list[str]:
    return list(dict.fromkeys(cell.table for cell in made.cells))


def test_a_row_that_cannot_be_measured_yet_says_what_it_needs(tmp_path: Path) -> None:
    made = report(tmp_path)
    told = {cell.row: cell.remarks for cell in made.cells if cell.table.startswith("Table 6") and cell.remarks}
    assert told == {
        "Moment-DETR": ("needs a file of Moment-DETR's scores, as configs/sevila/selectors/table6.yaml reads it",),
    }
    assert "needs a file of Moment-DETR's scores" in markdown(made, every=True)


def test_what_could_not_be_verified_stands_on_the_page_and_in_the_record(tmp_path: Path) -> None:
    made = report(tmp_path)
    lines = markdown(made, every=True).splitlines()
    assert made.tables.checked in lines
    assert lines[lines.index("Not verified:") + 2].startswith("* How2QA: how many questions the paper counts")
    table = next(table for table in made.tables.tables if table.title.startswith("NExT-GQA"))
    assert lines[lines.index(f"## {table.title}") + 2] == f"Not verified: {table.unverified}."
    assert made.as_dict()["unverified"][table.title] == table.unverified
    assert set(made.as_dict()["unverified"]) >= {"STAR", "How2QA", "TVQA"}


def test_any_frame_right_is_compared_with_the_published_oracle(tmp_path: Path) -> None:
    voting = {"oracle": accuracy(71.0), "voting": accuracy(60.0), "frame_mean": accuracy(55.0)}
    frames = {"reader": "per_frame", "selector": "uniform", "num_frames": 4, "keyframes": "all"}
    write_run(tmp_path / "run", recipe="zeroshot_voting", frames=frames, voting=voting)
    table = "Table 9: BLIP-2 voting, and any of 4 frames right"
    found = cells(report(tmp_path), row="BLIP-2 voting, zero-shot", benchmark="NExT-QA", table=table)
    assert {name: (cell.paper, cell.measured, cell.deviations) for name, cell in found.items()} == {
        "Avg": (62.7, 60.0, ()),
        "Oracle": (70.1, 71.0, ()),
    }


def test_the_newest_run_that_fits_is_shown_and_the_others_are_named(tmp_path: Path) -> None:
    for number, changes in enumerate([{"overall": 61.0}, {"overall": 62.0}, {"overall": 63.0, "questions": 7}]):
        folder = write_run(tmp_path / f"run{number}", **changes)
        os.utime(folder / "metrics.json", (1000 + number, 1000 + number))
    made = report(tmp_path)
    assert cells(made, **SEVILA)["Avg"].measured == 62.0
    assert {Path(run).name: why for run, why in made.others.items()} == {
        "run0": "nextqa val, 4996 questions: zeroshot_sevila; another run of it is shown",
        "run2": "nextqa val, 7 questions: zeroshot_sevila; another run of it is shown",
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipe": None}, "names no row; evaluate with run.recipe=NAME"),
        ({"recipe": "zeroshot_sevilla"}, "unknown run.recipe 'zeroshot_sevilla'; did you mean 'zeroshot_sevila'?"),
        ({"recipe": "qvh_localizer"}, "qvh_localizer has no published figure on it"),
    ],
)
def test_a_run_that_belongs_to_no_row_is_listed(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    write_run(tmp_path / "run", **changes)
    made = report(tmp_path)
    assert why in made.others[str(tmp_path / "run")]
    assert f"* {tmp_path / 'run'}: nextqa val" in markdown(made)


def test_unfinished_evaluations_are_listed_and_not_counted(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "evaluation.json").write_text("{}")
    again = write_run(tmp_path / "again")
    (again / "evaluation.json").write_text("{}")
    (again / "partial").mkdir()
    made = report(tmp_path)
    assert made.unfinished == (str(again), str(tmp_path / "new"))
    assert all(cell.measured is None for cell in made.cells)


def test_metrics_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"accuracy": 1.0}')
    assert report(tmp_path).others == {}


def test_a_damaged_file_or_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*none"):
        report(tmp_path / "none")
    (tmp_path / "metrics.json").write_text('{"accuracy": ')
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        report(tmp_path)


def test_the_record_holds_every_cell_with_its_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "run", overall=63.0)
    made = report(tmp_path)
    record = json.loads(json.dumps(made.as_dict()))
    assert len(record["cells"]) == len(made.cells)
    (cell,) = [
        cell
        for cell in record["cells"]
        if (cell["table"], cell["row"], cell["benchmark"], cell["figure"])
        == ("Table 2: zero-shot", SEVILA["row"], "NExT-QA", "Avg")
    ]
    assert cell["difference"] == pytest.approx(-0.6)
    assert record["averages"]["STAR"] == "mean of the four question types (macro)"


def test_the_picture_grows_with_what_it_has_to_tell(tmp_path: Path) -> None:
    empty = Image.open(io.BytesIO(report_picture(report(tmp_path))))
    write_run(tmp_path / "run", questions=30)
    flagged = Image.open(io.BytesIO(report_picture(report(tmp_path))))
    assert empty.size[0] == flagged.size[0] == 1280
    assert flagged.size[1] > empty.size[1]
    assert not any(pixel[1] == (232, 89, 12) for pixel in empty.getcolors(1 << 24) or [])
    assert any(pixel[1] == (232, 89, 12) for pixel in flagged.getcolors(1 << 24) or [])


def test_the_picture_leaves_out_what_averages_are_made_of(tmp_path: Path) -> None:
    drawn = {(cell.benchmark, cell.figure) for cell in summaries(report(tmp_path))}
    answered = ("NExT-QA", "STAR", "How2QA", "TVQA", "VLEP")
    searched = {("QVHighlights", figure) for figure in ("R1@0.5", "R1@0.7", "mAP")}
    grounded = {("NExT-GQA", figure) for figure in ("Acc@QA", "Acc@GQA", "mIoP", "mIoU")}
    assert drawn == {(name, figure) for name in answered for figure in ("Avg", "Oracle")} | searched | grounded


def test_a_hundred_runs_are_reported(tmp_path: Path) -> None:
    for number in range(100):
        write_run(tmp_path / f"run{number}", overall=float(number))
    made = report(tmp_path)
    assert len(made.others) == 99


@pytest.mark.slow
def test_a_hundred_runs_take_seconds(tmp_path: Path) -> None:
    with cpu_seconds_at_most(10):
        test_a_hundred_runs_are_reported(tmp_path)


def test_a_system_of_which_nothing_was_published_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    title = "Image-text models: nothing published"
    assert title not in markdown(report(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "smol", recipe="smolvlm2_500m_zeroshot", model="smolvlm2-500m", overall=50.0)
    made = report(tmp_path / "runs")
    found = cells(made, row="SmolVLM2-500M, zero-shot", benchmark="NExT-QA", table=title)
    assert {name: (cell.paper, cell.measured, cell.difference) for name, cell in found.items()} == {
        name: (None, value, None) for name, value in (("Tem", 51.0), ("Cau", 52.0), ("Des", 53.0), ("Avg", 50.0))
    }
    assert not any(cell.deviations for cell in found.values())
    assert {cell.row for cell in made.cells if cell.table == title} == {"SmolVLM2-500M, zero-shot"}
    row = next(line for line in markdown(made).splitlines() if "SmolVLM2-500M, zero-shot" in line and "Avg" in line)
    assert [column.strip() for column in row.split("|")[4:7]] == ["-", "50.0", ""]
    assert report_picture(made)
