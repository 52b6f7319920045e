"""Launch commands and recipes of the published repository, as people have them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from lavis.cli.common import checked_options
from lavis.cli.main import main
from lavis.common.errors import ConfigError
from tests.architecture.source import ROOT
from tests.integration.training.tiny_run import options, recipe, torchrun, write_tiny_data, write_tiny_model
from tests.published_recipes import evaluation_recipe, training_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def launched(script: str, path: Path, settings: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a script on two processes, as the published commands do, in the folder of the recipe."""
    command = [*torchrun(2), str(ROOT / script), "--cfg-path", str(path.relative_to(path.parents[4])), "--options"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *settings], cwd=path.parents[4], env=environment, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip


def placed(text: str, folder: Path, name: str) -> Path:
    """Write a recipe where the published repository has it."""
    path = folder / "lavis" / "projects" / "sevila" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_published_training_command_trains_and_says_once_what_was_translated(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    path = placed(training_recipe("nextqa"), tmp_path, "train/nextqa.yaml")
    small = options("refine", data=data, model=model_folder, output=tmp_path / "run", max_iters=1)
    ran = launched("train.py", path, [*small, "model.load_finetuned=False", "run.task=videoqa"])
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("run.world_size, run.dist_url: no meaning here") == 1
    assert ran.stderr.count("--options: model.load_finetuned=false -> model.finetuned=null") == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows if row["kind"] == "train"] == [1]
    assert "load_finetuned" not in (tmp_path / "run" / "config.yaml").read_text()


def test_a_published_evaluation_command_evaluates(data: Path, model_folder: Path, tmp_path: Path) -> None:
    path = placed(evaluation_recipe("nextqa"), tmp_path, "eval/nextqa_eval.yaml")
    small = options("refine", data=data, model=model_folder, output=tmp_path / "run")
    ran = launched("evaluate.py", path, [*small, "model.finetuned=null", "model.task=qvh_freeze_loc_freeze_qa_vid"])
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("datasets.nextqa.text_processor: no meaning here") == 1
    assert "5 questions, 0 of them unreadable" in ran.stdout


@pytest.mark.parametrize("stage", ["refine", "pretrain"])
def test_a_published_recipe_can_be_tried(
    stage: str, data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(training_recipe("qvh" if stage == "pretrain" else "nextqa"))
    settings = [*options(stage, data=data, model=model_folder), "model.finetuned=null", "run.warmup_steps=3000"]
    assert main(["train", "--cfg-path", str(path), "--dry-run", "--options", *settings]) == 0
    captured = capsys.readouterr()
    assert "first step: 2 samples, loss" in captured.out
    assert captured.err.count("model.freeze_vit=true -> left out: it is so here") == 1
    assert "run.warmup_steps is 3000, but the whole run has 8 iterations" in captured.err


def test_weights_that_only_the_recipe_names_are_missed_with_the_way_to_get_them(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(training_recipe("nextqa"))
    settings = options("refine", data=data, model=model_folder, output=tmp_path / "run")
    assert main(["train", "--cfg-path", str(path), "--options", *settings]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: no weights at sevila_checkpoints/sevila_pretrained.pth; "
        "download them with: sevila checkpoint fetch sevila_pretrained.pth"
    )


@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
def test_a_run_that_is_only_to_evaluate_trains_nothing(
    stage: str, data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = options(stage, data=data, model=model_folder, evaluate="true", test_splits="[test]")
    outputs = {kind: tmp_path / kind for kind in ("train", "evaluate")}
    for kind, output in outputs.items():
        settings = [*small, f"run.output_dir={output}"]
        assert main([kind, "--cfg-path", str(recipe(stage)), "--options", *settings]) == 0
    assert "4 questions, 0 of them unreadable" in capsys.readouterr().out
    assert not (outputs["train"] / "log.jsonl").exists()
    assert not (outputs["train"] / "checkpoints").exists()
    trained, evaluated = ((output / "metrics.json").read_text() for output in outputs.values())
    assert trained == evaluated


def test_a_task_that_only_evaluates_is_tested_by_the_training_command_too(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = options("finetune", data=data, model=model_folder, output=tmp_path / "run", evaluate="true")
    settings += ["model.task=freeze_qa_vid"]
    command = ["train", "--cfg-path", str(recipe("finetune")), "--options", *settings]
    assert main([*command, "--dry-run"]) == 0
    assert "run.evaluate is true: the real run only tests, and trains nothing" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert main(command) == 0
    assert "nextqa val: accuracy" in capsys.readouterr().out


def test_options_may_be_pairs_as_in_lavis() -> None:
    assert checked_options(["run.seed", "1", "model.task", "x=y"]) == ["run.seed=1", "model.task=x=y"]
    for wrong in (["run.seed"], ["run.seed=1", "run.max_epoch"], ["seed", "1"]):
        with pytest.raises(ConfigError, match="is not of the form key=value"):
            checked_options(wrong)
