"""From raw files through check, shards and evaluation to the table that sets the figures beside the published ones."""

import json
import re
from pathlib import Path

import pytest

from lavis.cli.main import main
from tests.integration.evaluation.benchmarks import (
    options,
    read_lines,
    recipe,
    without_time,
    write_benchmark,
    write_clips,
)
from tests.integration.training.tiny_run import write_tiny_model
from tests.unit.export.runs import write_run

BENCHMARKS = ("nextqa", "tvqa", "vlep")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_passes_its_check_and_gives_the_same_answers_from_shards(
    name: str, data: Path, clips: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_benchmark(name, data=data, clips=clips)
    assert main(["check", name, "--workers", "0", "--splits", "val", "--out", str(tmp_path / "check")]) == 0
    assert json.loads((tmp_path / "check" / "check.json").read_text())["lost"] == 0
    capsys.readouterr()
    shards = tmp_path / "shards"
    assert main(["prepare", "shards", "--dataset", name, "--splits", "val", "--out", str(shards)]) == 0
    said = capsys.readouterr().out.splitlines()[-1].removeprefix("to use them: --options ").split()
    for run, storage in (("plain", []), ("shards", said)):
        small = options(name, model=model_folder, output=tmp_path / run)
        assert main(["evaluate", "--cfg-path", str(recipe(name)), "--options", *small, *storage]) == 0
    plain, sharded = (read_lines(tmp_path / run / "predictions.jsonl") for run in ("plain", "shards"))
    assert without_time(sharded) == without_time(plain)
    assert all(prediction["unreadable"] is None for prediction in plain)


def test_a_tiny_run_stands_beside_the_published_figure_and_is_not_compared_with_it(
    data: Path, clips: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_benchmark("nextqa", data=data, clips=clips)
    small = options("nextqa", model=model_folder, output=tmp_path / "runs" / "tiny", recipe="zeroshot_sevila")
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *small]) == 0
    write_run(tmp_path / "runs" / "star", overall=49.0, dataset="star", questions=7098)
    capsys.readouterr()
    assert main(["report", str(tmp_path / "runs")]) == 0
    page = capsys.readouterr().out
    assert "not run" not in page
    assert page.startswith((tmp_path / "runs" / "paper_report.md").read_text())
    lines = [re.split(r"\s*\|\s*", line)[1:-1] for line in page.splitlines() if "pre-trained Localizer" in line]
    (tiny, *_) = [line for line in lines if line[1:3] == ["NExT-QA", "Tem"]]
    assert tiny[3] == "61.3"
    assert re.fullmatch(r"\(\d+\.\d\)", tiny[4])
    assert tiny[5] == ""
    questions = len(json.loads((data / "nextqa" / "val.json").read_text()))
    assert tiny[6] == str(questions)
    for deviation in (f"a part of the split: {questions} questions, not 4996", "num_frames 6, not 32"):
        assert deviation in tiny[8]
    (star, *_) = [line for line in lines if line[1:3] == ["STAR", "Avg"]]
    assert star[3:7] == ["44.6", "44.0", "-0.6", "7098"]
    record = json.loads((tmp_path / "runs" / "paper_report.json").read_text())
    assert {cell["run"] for cell in record["cells"]} == {
        None, str(tmp_path / "runs" / "tiny"), str(tmp_path / "runs" / "star"),
    }  # fmt: skip
    assert (tmp_path / "runs" / "paper_report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "."], ". holds no finished evaluation; make one with: sevila evaluate"),
        (["report", "none"], "there is no folder none; give the folder that holds the evaluations"),
        (["report", ".", "--tables", "none.yaml"], "no configuration file at none.yaml"),
        (["prepare", "shards"], "shards need --dataset NAME and --out DIR"),
        (["prepare", "shards", "--dataset", "nextqa", "--out", "x", "--shard-mib", "0"], "--shard-mib is 0"),
        (["prepare", "nextqa", "--out", "x"], "no folder of nextqa's own annotation files; pass --raw DIR"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
