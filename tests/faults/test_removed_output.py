"""An output folder that is removed while a run goes on ends it in one line, instead of leaving half of the results."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.runners.checkpoint import BestCheckpoint
from lavis.runners.evaluation.evaluator import Evaluator
from lavis.runners.evaluation.results import PredictionStore
from lavis.runners.trainer import Runner, Updater
from tests.integration.training.tiny_run import options, recipe


@pytest.mark.parametrize(
    ("command", "place", "moment", "lost"),
    [
        ("train", Updater, "apply", "log.jsonl"),
        ("train", Runner, "validate", "log.jsonl"),
        ("train", Runner, "finish", "log.jsonl"),
        ("train", BestCheckpoint, "write", "log.jsonl"),
        ("evaluate", Evaluator, "predictions", "evaluation.json"),
        ("evaluate", PredictionStore, "append", "evaluation.json"),
        ("evaluate", PredictionStore, "finish", "evaluation.json"),
    ],
)
def test_it_is_said_in_one_line(
    command: str,
    place: type,
    moment: str,
    lost: str,
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, original = tmp_path / "run", getattr(place, moment)

    def after_removal(self: Any, *args: Any, **given: Any) -> Any:
        shutil.rmtree(output, ignore_errors=True)
        return original(self, *args, **given)

    monkeypatch.setattr(place, moment, after_removal)
    settings = options("finetune", data=data, model=model_folder, output=output, max_iters=2)
    assert main([command, "--cfg-path", str(recipe("finetune")), "--options", *settings]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"error: {output / lost} was removed while it was in use; start again"
