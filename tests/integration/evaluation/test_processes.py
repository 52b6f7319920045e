"""Whatever the number of processes and the batch size, every question is counted once and the figures are the same."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.cli.main import main
from lavis.models.sevila.model import SeViLA
from tests.architecture.source import ROOT
from tests.integration.evaluation.benchmarks import read_lines, recipe, without_time
from tests.integration.evaluation.questions import ASKED, MISSING, NUM_QUESTIONS, settings
from tests.integration.training.tiny_run import torchrun
from tests.precision import assert_near_float64


@pytest.fixture(scope="module")
def alone(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation on one process."""
    output = tmp_path_factory.mktemp("alone") / "run"
    run_here(settings(data, model=model_folder, output=output))
    return output


def run_here(options: list[str], *arguments: str) -> None:
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), *arguments, "--options", *options]) == 0


def assert_same_results(one: Path, other: Path) -> None:
    expected, found = (without_time(read_lines(folder / "predictions.jsonl")) for folder in (one, other))
    assert found == expected
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    assert metrics[0] == metrics[1]


def test_every_question_is_counted_once_and_in_the_files_order(alone: Path, data: Path) -> None:
    rows = read_lines(alone / "predictions.jsonl")
    assert [row["id"] for row in rows] == [row["qid"] for row in json.loads((data / "val.json").read_text())]
    assert len(rows) == NUM_QUESTIONS
    assert not (alone / "partial").exists()


def test_an_unreadable_video_is_recorded_with_its_reason_and_counts_as_wrong(alone: Path, data: Path) -> None:
    rows = read_lines(alone / "predictions.jsonl")
    unread = [row for row in rows if row["unreadable"]]
    assert {row["video"] for row in unread} == {MISSING}
    assert {row["unreadable"] for row in unread} == {f"no video '{MISSING}' in {data}/videos"}
    metrics = json.loads((alone / "metrics.json").read_text())
    right = sum(row["choice"] == row["answer"] for row in rows)
    assert metrics["unreadable"] == len(unread) == 3
    assert metrics["accuracy"]["overall"]["percent"] == pytest.approx(100 * right / NUM_QUESTIONS)
    assert metrics["accuracy"]["readable_only"]["percent"] == pytest.approx(100 * right / (NUM_QUESTIONS - 3))
    assert f"no video '{MISSING}' in {data}/videos (3 questions)" in (alone / "report.md").read_text()


def test_the_weights_that_mean_nothing_are_named_in_metrics_and_report(alone: Path) -> None:
    assert json.loads((alone / "metrics.json").read_text())["weights"]["status"] == "untrained"
    assert "**UNTRAINED WEIGHTS (sevila_tiny)" in (alone / "report.md").read_text().splitlines()[2]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_changes_nothing(
    alone: Path, data: Path, model_folder: Path, tmp_path: Path, batch_size: int
) -> None:
    run_here(settings(data, model=model_folder, output=tmp_path, batch_size_eval=batch_size))
    assert_same_results(alone, tmp_path)


# Two processes go on from what one process had done: the last ten lines hold all questions of three clips.
@pytest.mark.parametrize(
    ("processes", "workers", "done", "kept"), [(2, 0, 10, {"CW_4", "DO_5", "CW_10", "TN_6"}), (3, 1, 0, set())]
)
def test_the_number_of_processes_changes_nothing(
    alone: Path, data: Path, model_folder: Path, tmp_path: Path, processes: int, workers: int, done: int, kept: set[str]
) -> None:
    (tmp_path / "run").mkdir()
    if done:
        shutil.copy(alone / "evaluation.json", tmp_path / "run")
        lines = (alone / "predictions.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "run" / "predictions.jsonl").write_text("".join(lines[-done:]))
    options = settings(data, model=model_folder, output=tmp_path / "run", num_workers=workers)
    command = [*torchrun(processes), str(ROOT / "evaluate.py"), "--cfg-path", str(recipe("nextqa"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--options", *options], check=True, cwd=tmp_path, env=environment, timeout=1200)
    assert_same_results(alone, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == processes
    pairs = zip(
        read_lines(alone / "predictions.jsonl"), read_lines(tmp_path / "run" / "predictions.jsonl"), strict=True
    )
    assert {old["id"] for old, new in pairs if new["seconds"] == old["seconds"] and not new["unreadable"]} == kept


def test_every_clip_is_encoded_once(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    features = SeViLA.features

    def recorded(self: SeViLA, pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(SeViLA, "features", recorded)
    run_here(settings(data, model=model_folder, output=tmp_path))
    assert encoded == [6] * sum(video != MISSING for video, _ in ASKED)


@pytest.mark.parametrize("arguments", [(), ("--cache",)])
def test_tokens_of_chosen_frames_give_the_results_of_all_frames_tokens(
    alone: Path,
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setenv("SEVILA_CACHE", str(tmp_path / "cache"))
    if not arguments:
        monkeypatch.setattr("lavis.models.frames.MAX_KEPT_INPUTS", 0)
    run_here(settings(data, model=model_folder, output=tmp_path / "run"), *arguments)
    pairs = zip(
        read_lines(alone / "predictions.jsonl"), read_lines(tmp_path / "run" / "predictions.jsonl"), strict=True
    )
    for ours, theirs in pairs:
        assert (ours["choice"], ours["keyframe_idx"]) == (theirs["choice"], theirs["keyframe_idx"])
        # Each is so near to what float64 gives, and the two no further apart than about twice that.
        assert_near_float64(np.array(ours["option_scores"]), np.array(theirs["option_scores"]), dtype=torch.float32)
