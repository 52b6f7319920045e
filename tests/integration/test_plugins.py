"""The examples of docs/plugins.md, as they stand there, through the doors that people use."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lavis.cli.main import main
from tests.architecture.source import ROOT
from tests.integration.training.tiny_run import torchrun
from tests.videos import numbered_picture, write_video

DOC = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```\w+\n# (\w+\.\w+)\n(.*?)```", DOC, re.DOTALL))
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ sevila (.+)$", DOC, re.MULTILINE)]
KINDS = ("scorer", "policy", "model", "prompt", "reader", "dataset", "metric", "objective")
NUM_QUESTIONS = 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: None) -> Path:
    """A folder with the files of the examples and what they read; the current one."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "videos").mkdir()
    for path in (tmp_path / "clip.mp4", *(tmp_path / "videos" / f"v{number}.mp4" for number in range(NUM_QUESTIONS))):
        write_video(path, num_frames=40)
    np.save(tmp_path / "clip.npy", [numbered_picture(number, width=96, height=64) for number in range(40)])
    with (tmp_path / "quiz.csv").open("w", newline="") as file:
        csv.writer(file).writerows([f"v{number}", "What?", number % 2, "a cat", "a dog"] for number in range(3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_short_example_of_every_kind(kind: str) -> None:
    assert len(FILES[f"my_{kind}.py"].splitlines()) < 30
    assert any(f"my_{kind}" in " ".join(command) for command in COMMANDS) or f"[my_{kind}" in DOC


@pytest.mark.parametrize("command", [one for one in COMMANDS if "my_metric" not in one], ids=" ".join)
def test_every_command_of_the_page_runs(command: list[str], folder: Path) -> None:
    assert main([*command, *(["--json"] if command[0] == "answer" else [])]) == 0


def test_a_metric_is_measured_over_every_question_once(folder: Path) -> None:
    assert main(next(one for one in COMMANDS if one[0] == "evaluate" and "my_metric" in one)) == 0
    rows = [json.loads(line) for line in (folder / "output" / "predictions.jsonl").read_text().splitlines()]
    leads = [abs(first - second) for first, second in (row["option_scores"] for row in rows)]
    metrics = json.loads((folder / "output" / "metrics.json").read_text())
    assert (len(leads), metrics["metrics"]) == (NUM_QUESTIONS, {"confidence": pytest.approx(np.mean(leads))})
    assert "## Metrics of plugins" in (folder / "output" / "report.md").read_text()


def test_a_metric_decides_which_weights_are_the_best_on_two_processes(folder: Path) -> None:
    _, *options = next(one for one in COMMANDS if one[0] == "train")
    command = [*torchrun(2), str(ROOT / "train.py"), *options, "run.num_workers=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    best = json.loads((folder / "trained" / "best" / "metrics.json").read_text())
    assert best["value"] == best["metrics"]["val"]["confidence"]
    assert best["metrics"]["val"]["questions"] == NUM_QUESTIONS
    facts = json.loads((folder / "trained" / "run.json").read_text())
    assert (facts["processes"], list(facts["plugins"])) == (2, ["my_objective", "my_metric", "my_dataset"])


def test_a_dataset_that_only_the_recipe_knows_is_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"video": f"v{number}", "qid": f"q{number}", "question": "What?", "a0": "x", "a1": "y", "num_option": 2,
             "answer": 0} for number in range(NUM_QUESTIONS)]  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(rows))
    inline = (folder / "quiz.yaml").read_text().replace("    type: quiz\n", "").replace("quiz.csv", "rows.json")
    (folder / "inline.yaml").write_text(inline.replace("imports: [my_dataset], ", ""))
    assert main(["train", "--cfg-path", "inline.yaml", "--dry-run", "--options", "model.task=answerer_finetuning"]) == 0
    assert "measuring val: 3 questions" in capsys.readouterr().out
    assert main(["check", "pub_quiz", "--cfg", "inline.yaml"]) == 0


def test_an_installed_plugin_needs_no_option_and_workers_know_it_too(folder: Path) -> None:
    facts = folder / "quiz_parts-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: quiz-parts\nVersion: 1.2\n")
    (facts / "entry_points.txt").write_text("[sevila.plugins]\nreader = my_reader\n")
    (facts / "RECORD").write_text("my_reader.py,,\nmy_dataset.py,,\n")
    for number in range(NUM_QUESTIONS):
        (folder / "videos" / f"v{number}.mp4").write_bytes((folder / "clip.npy").read_bytes())
    command = [sys.executable, "-m", "lavis", "evaluate", "--cfg-path", str(folder / "quiz.yaml"), "--options"]
    places = [f"datasets.pub_quiz.build_info.annotations.val.storage={folder / 'quiz.csv'}"]
    places += [f"datasets.pub_quiz.build_info.videos.{key}" for key in (f"storage={folder / 'videos'}", "reader=numpy")]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [*command, *places, "run.num_workers=1", f"run.output_dir={folder / 'out'}"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "unreadable 0" in (folder / "out" / "report.md").read_text()) == (0, True), done.stderr
    plugins = json.loads((folder / "out" / "run.json").read_text())["plugins"]
    assert plugins == {"my_reader": "quiz-parts 1.2", "my_dataset": "quiz-parts 1.2"}
