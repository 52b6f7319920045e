"""Training as people start it: the shell scripts on two processes, and the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lavis.cli.main import main
from tests.architecture.source import ROOT
from tests.integration.training.tiny_run import options, recipe, write_tiny_data, write_tiny_model
from tests.unit.common.test_sole_use import held

SCRIPTS = {
    "pretrain": "pre-train/pretrain_qvh.sh",
    "refine": "refinement/nextqa_sr.sh",
    "finetune": "finetune/nextqa_ft.sh",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_the_scripts_run_the_stages_one_after_another_on_two_processes(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "NUM_PROCESSES": "2", "OMP_NUM_THREADS": "1"}
    earlier: list[str] = []
    for stage, script in SCRIPTS.items():
        output = tmp_path / stage
        settings = options(stage, data=data, model=model_folder, output=output, max_iters=2)
        if earlier:
            settings.append(f"model.finetuned=[{','.join(earlier)}]")
        command = ["sh", str(ROOT / "run_scripts" / "sevila" / script), *settings]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=1200)
        rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        assert [row["iteration"] for row in rows if row["kind"] == "train"] == [1, 2]
        assert json.loads((output / "run.json").read_text())["processes"] == 2
        earlier.append(str(output / "best"))
    # Each question of a split is counted once.
    assert json.loads((tmp_path / "finetune" / "metrics" / "val_best.json").read_text())["questions"] == 5


def test_the_command_trains_and_says_where_the_results_are(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = options("finetune", data=data, model=model_folder, output=tmp_path / "run", max_iters=1)
    assert main(["train", "--cfg-path", str(recipe("finetune")), "--options", *settings]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"weights and figures are in {tmp_path / 'run'}"


def test_a_folder_that_another_run_is_writing_to_is_refused(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = options("finetune", data=data, model=model_folder, output=tmp_path, max_iters=1)
    with held(tmp_path) as (pid, _):
        assert main(["train", "--cfg-path", str(recipe("finetune")), "--options", *settings]) == 2
        assert main(["evaluate", "--cfg-path", str(recipe("finetune")), "--options", *settings]) == 2
    expected = f"error: {tmp_path} is in use by process {pid} on "
    assert [line.startswith(expected) for line in capsys.readouterr().err.splitlines()] == [True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]


def test_rounds_refine_and_fine_tune_in_turn(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = options("refine", data=data, model=model_folder, max_iters=1)
    paths = [str(recipe("refine")), str(recipe("finetune"))]
    assert main(["train", "--cfg-path", *paths, "--iterations", "2", "--options", *settings]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("weights")]
    stages = ("refine_nextqa/round1", "finetune_nextqa/round1", "refine_nextqa/round2", "finetune_nextqa/round2")
    assert said == [f"weights and figures are in output/{stage}" for stage in stages]


def test_the_command_can_only_try(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = options("refine", data=data, model=model_folder, output=tmp_path / "run")
    assert main(["train", "--cfg-path", str(recipe("refine")), "--dry-run", "--options", *settings]) == 0
    assert "first step: 2 samples, loss" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "run.seed"], "error: --options 'run.seed' is not of the form key=value"),
        (["--options", "run.sead=1"], "error: run: unknown key 'sead'; did you mean 'seed'?"),
        (
            ["--options", "model.task=train_qa_vida"],
            "error: unknown task 'train_qa_vida'; did you mean 'train_qa_vid'?",
        ),
        (["--options", "model.task=freeze_qa_vid"], "error: this model.task only evaluates; to train, use one of:"),
        (["--options", "model.model_type=tinny"], "error: no model folder or size 'tinny'; did you mean 'tiny'?"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg-path", str(recipe("finetune")), *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(message)
