"""All six benchmarks in their real sizes, from raw files to figures, through the commands that people use."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lavis.cli.main import main
from lavis.common.files import paper_tables_path
from lavis.datasets.annotations import Annotation, read_annotations
from lavis.export.report import load_paper_tables
from lavis.models.sevila.model import SeViLA
from lavis.tasks.metrics.moments import SpanRule, moment_metrics
from lavis.tasks.metrics.questions import TYPE_GROUPS, question_metrics
from lavis.tasks.predictions import Prediction
from tests.integration.evaluation.benchmarks import BENCHMARKS, read_lines, recipe
from tests.integration.evaluation.real_sizes import SIZES, write_raw, write_videos
from tests.timing import cpu_seconds_at_most
from tests.unit.models.tiny import CONFIG

# Several times what they take on an idle machine; the largest, TVQA, has 15,253 questions.
PREPARE_S, MEASURE_S = 20.0, 30.0


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    SeViLA.untrained(CONFIG).save_pretrained(folder)
    return folder


def prepare(name: str, *, data: Path, raw: Path) -> None:
    assert main(["prepare", name, "--raw", str(write_raw(name, raw)), "--out", str(data)]) == 0


def check(name: str, *, folder: Path) -> None:
    assert main(["check", name, "--splits", "val", "--workers", "0", "--out", str(folder)]) == 0
    assert json.loads((folder / "check.json").read_text())["lost"] == 0


def invented(rows: Sequence[Annotation]) -> list[Prediction]:
    """Two of three questions answered right, and frames that say so; for searches, a score for each of 75 frames."""
    times_s = tuple(np.arange(75) * 2.0 + 1)
    random = np.random.default_rng(0)
    made = []
    for number, row in enumerate(rows):
        question = row.question
        about = {"id": question.id, "video": str(question.video), "frame_times_s": times_s}
        if question.answer is None:
            made.append(Prediction(**about, frame_scores=tuple(random.normal(size=75))))
        else:
            choice = question.answer if number % 3 else (question.answer + 1) % len(question.options)
            made.append(Prediction(**about, answer=question.answer, choice=choice, frame_choices=(choice,) * 4))
    return made


def test_the_sizes_are_those_that_the_report_expects() -> None:
    benchmarks = load_paper_tables(paper_tables_path()).benchmarks
    expected = {name: benchmarks[name].questions or SIZES[name]["val"].questions for name in BENCHMARKS}
    assert {name: SIZES[name][benchmarks[name].split].questions for name in BENCHMARKS} == expected


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_release_is_prepared_and_measured(name: str, data: Path, tmp_path: Path) -> None:
    prepare(name, data=data, raw=tmp_path / "raw")
    for split, size in SIZES[name].items():
        rows = read_annotations(data / name / f"{split}.json").rows
        assert Counter(row.question.kind for row in rows) == size.types
        assert len({(row.source, row.question.video) for row in rows}) == size.videos

    rows = read_annotations(data / name / "val.json").rows
    if name == "qvh":
        figures = moment_metrics(invented(rows), rows, spans=SpanRule())
        assert 0 < figures["moments"]["published"]["brief"]["MR-full-mAP"] < 50
    else:
        figures = question_metrics(invented(rows), rows, spans=SpanRule(), groups=TYPE_GROUPS.get(name))
        right = 100 * (1 - np.mean([number % 3 == 0 for number in range(len(rows))]))
        assert figures["accuracy"]["overall"]["percent"] == pytest.approx(right)
        assert figures["voting"]["oracle"]["overall"]["percent"] == pytest.approx(right)
    assert figures["questions"] == SIZES[name]["val"].questions


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_release_is_prepared_and_measured_in_seconds(name: str, data: Path, tmp_path: Path) -> None:
    with cpu_seconds_at_most(PREPARE_S + MEASURE_S):
        test_a_release_is_prepared_and_measured(name, data, tmp_path)


@pytest.mark.parametrize("name", ["nextqa", "vlep"])
def test_all_videos_of_a_release_are_checked(name: str, data: Path, tmp_path: Path) -> None:
    prepare(name, data=data, raw=tmp_path / "raw")
    write_videos(name, data=data, splits=("val",))
    check(name, folder=tmp_path / "check")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nextqa", "vlep"])
def test_all_videos_of_a_release_are_checked_in_seconds(name: str, data: Path, tmp_path: Path) -> None:
    with cpu_seconds_at_most(PREPARE_S + MEASURE_S):
        test_all_videos_of_a_release_are_checked(name, data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_release_becomes_a_number(name: str, data: Path, model_folder: Path, tmp_path: Path) -> None:
    prepare(name, data=data, raw=tmp_path / "raw")
    write_videos(name, data=data, splits=("val",))
    check(name, folder=tmp_path / "check")
    small = [
        f"model.model_type={model_folder}",
        *("model.dtype=fp32", "model.frame_num=1", f"datasets.{name}.vis_processor.eval.n_frms=2"),
        *("run.device=cpu", "run.num_workers=0", "run.test_splits=[val]", f"run.output_dir={tmp_path / 'run'}"),
    ]
    assert main(["evaluate", "--cfg-path", str(recipe(name)), "--options", *small]) == 0
    rows, size = read_lines(tmp_path / "run" / "predictions.jsonl"), SIZES[name]["val"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (len(rows), metrics["questions"], metrics["unreadable"]) == (size.questions, size.questions, 0)
    if name == "qvh":
        assert len(read_lines(tmp_path / "run" / "submission.jsonl")) == size.questions
        assert 0 < metrics["moments"]["published"]["brief"]["MR-full-R1@0.5"] < 100
        return
    right = 100 * sum(row["choice"] == row["answer"] for row in rows) / len(rows)
    assert metrics["accuracy"]["overall"]["percent"] == pytest.approx(right)
    by_type = {kind: figures["questions"] for kind, figures in metrics["accuracy"]["by_type"].items()}
    assert by_type == size.types
