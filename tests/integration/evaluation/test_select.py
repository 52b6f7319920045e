"""`sevila select`: a row for every question, from which an evaluation gives the same answers as by choosing itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.models.sevila.model import SeViLA
from lavis.selection.frames_file import SelectionCost, read_frames
from tests.architecture.source import ROOT
from tests.integration.evaluation.benchmarks import read_lines, recipe
from tests.integration.evaluation.questions import MISSING, NUM_QUESTIONS, settings
from tests.integration.training.tiny_run import torchrun
from tests.videos import write_video

AKS = "{scorer: noise, policy: {name: aks, depth: 2}, k: 3}"


def chosen_by(data: Path, model: Path, out: Path, *arguments: str) -> int:
    options = settings(data, model=model, output=out.with_name("unused"))
    return main(["select", str(recipe("nextqa")), "--out", str(out), *arguments, "--options", *options])


def predictions(data: Path, model: Path, output: Path, selector: str) -> list[dict[str, Any]]:
    options = [*settings(data, model=model, output=output), f"model.selector={selector}"]
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *options]) == 0
    return read_lines(output / "predictions.jsonl")


def without_cost(path: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "cost"} for row in read_lines(path)]


@pytest.fixture(scope="module")
def alone(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process has chosen by the Localizer."""
    out = tmp_path_factory.mktemp("alone") / "frames.jsonl"
    assert chosen_by(data, model_folder, out) == 0
    return out


@pytest.mark.parametrize("selector", ["localizer", AKS])
def test_an_evaluation_of_the_file_gives_the_answers_of_the_selector(
    data: Path, model_folder: Path, tmp_path: Path, selector: str
) -> None:
    out = tmp_path / "frames.jsonl"
    assert chosen_by(data, model_folder, out, "--selector", selector) == 0
    direct = predictions(data, model_folder, tmp_path / "direct", selector)
    again = predictions(data, model_folder, tmp_path / "again", f"{{policy: {{name: frames_file, path: {out}}}}}")
    same = ("id", "video", "choice", "option_scores", "keyframe_idx", "keyframe_times_s", "frame_times_s", "cut")
    assert [[row[name] for name in same] for row in again] == [[row[name] for name in same] for row in direct]
    assert [bool(row["unreadable"]) for row in again] == [bool(row["unreadable"]) for row in direct]
    assert sum(row["choice"] is not None for row in again) == NUM_QUESTIONS - 3


def test_every_question_has_one_row_in_the_files_order(
    alone: Path, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    annotated = json.loads((data / "val.json").read_text())
    rows = read_frames(alone).rows
    assert [row.question_id for row in rows] == [row["qid"] for row in annotated]
    assert [row.doc_id for row in rows] == list(range(NUM_QUESTIONS))
    direct = predictions(data, model_folder, tmp_path / "direct", "localizer")
    for row, said, asked in zip(rows, direct, annotated, strict=True):
        assert (row.task, row.split, row.video, row.question) == ("nextqa", "val", asked["video"], asked["question"])
        assert row.method == "localizer"
        if said["unreadable"]:
            assert (row.unreadable, row.frame_idx, row.video) == (said["unreadable"], None, MISSING)
            continue
        assert (row.fps, row.num_frames, len(row)) == (8.0, 40, 2)
        assert list(row.frame_idx or ()) == said["keyframe_idx"]
        assert list(row.times_s or ()) == said["keyframe_times_s"]
        assert row.candidates is not None
        assert list(row.candidates.times_s or ()) == said["frame_times_s"]
        assert list(row.candidates.scores) == pytest.approx(said["frame_scores"], abs=1e-5)
        assert sorted(row.scores) == sorted(row.candidates.scores)[-2:]


def test_the_cost_is_that_of_all_questions_about_the_clip(alone: Path) -> None:
    cost = {row.question_id: row.cost for row in read_frames(alone).rows}
    first = cost["TN_0"]
    assert first is not None
    assert first == SelectionCost(questions=4, frames_decoded=6, frames_scored=6, scorer_calls=1, seconds=first.seconds)
    assert first.seconds > 0
    assert [one and one.questions for one in cost.values()].count(4) == 4


def test_nothing_is_answered_and_no_large_model_is_loaded_for_nothing(
    alone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lavis.tasks.predictions.ChoiceAsker.ask", lambda *_: pytest.fail("something is answered"))
    monkeypatch.setattr(SeViLA, "features", lambda *_: pytest.fail("a frame is encoded"))
    out = tmp_path / "frames.jsonl"
    assert chosen_by(data, tmp_path / "no_such_model", out, "--selector", "uniform", "-k", "3", "--task", "mine") == 0
    rows = read_frames(out).rows
    watched = [row.candidates.frame_idx if row.candidates else None for row in read_frames(alone).rows]
    assert [row.frame_idx for row in rows] == [places and (places[1], places[3], places[5]) for places in watched]
    assert {(row.task, len(row), row.candidates) for row in rows if not row.unreadable} == {("mine", 3, None)}
    assert f"nextqa val: {NUM_QUESTIONS} questions, 3 of them without frames -> {out}" in capsys.readouterr().out


def test_a_budget_of_tokens_is_refused_since_nobody_reads_the_frames(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*settings(data, model=model_folder, output=tmp_path / "unused"), "model.token_budget=99"]
    out = tmp_path / "frames.jsonl"
    assert main(["select", str(recipe("nextqa")), "--out", str(out), "--options", *options]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert "model.token_budget is 99" in told
    assert "give model.token_budget=null, and say how many frames with -k" in told
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_processes_changes_nothing(alone: Path, data: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames.jsonl"
    options = settings(data, model=model_folder, output=tmp_path / "unused")
    command = [*torchrun(2), "-m", "lavis", "select", str(recipe("nextqa")), "--out", str(out), "--options", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert without_cost(out) == without_cost(alone)
    assert [path.name for path in tmp_path.iterdir()] == ["frames.jsonl"]


@pytest.fixture(scope="module")
def long_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips of one video, two questions each."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "v.mp4", num_frames=80, fps=8)
    rows = [
        {
            "video": "v",
            "qid": f"CW_{number}",
            "question": f"What is {number}",
            "answer": 0,
            "a0": "a dog",
            "a1": "a cat",
        }
        | {"start": number // 2 * 0.1, "end": number // 2 * 0.1 + 2}
        for number in range(60)
    ]
    (folder / "val.json").write_text(json.dumps(rows))
    return folder


def kill_half_way(command: list[str], *, partial: Path, num_lines: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "lavis", *command], env=environment, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 300
        while run.poll() is None and time.monotonic() < deadline:
            if partial.exists() and partial.read_bytes().count(b"\n") >= num_lines:
                break
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)


def test_a_killed_selection_goes_on_to_the_identical_file(
    long_data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert chosen_by(long_data, model_folder, whole) == 0
    partial = tmp_path / "killed.jsonl.partial" / "rank0.jsonl"
    options = settings(long_data, model=model_folder, output=tmp_path / "unused")
    command = ["select", str(recipe("nextqa")), "--out", str(killed), "--options", *options]
    kill_half_way(command, partial=partial, num_lines=9)
    lines = partial.read_bytes().splitlines(keepends=True)
    assert 9 <= len(lines) < 60
    assert not killed.exists()
    # As if the kill had come while a line was being written, in the middle of a letter.
    partial.write_bytes(b"".join(lines) + '{"schema": "sevila.frames/1", "video": "\u00e4'.encode()[:-1])
    assert main(["select", *command[1:], "run.batch_size_eval=2"]) == 0
    assert without_cost(killed) == without_cost(whole)
    assert not partial.parent.exists()


def test_frames_that_were_chosen_differently_are_not_mixed(
    long_data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "frames.jsonl"
    partial = tmp_path / "frames.jsonl.partial"
    assert chosen_by(long_data, model_folder, out, "-k", "3") == 0
    assert chosen_by(long_data, model_folder, out, "-k", "3") == EXIT_USER_ERROR
    assert f"{out} is already there; choose another --out, or replace it with --force" in capsys.readouterr().err
    out.unlink()
    options = settings(long_data, model=model_folder, output=tmp_path / "unused")
    command = ["select", str(recipe("nextqa")), "--out", str(out), "-k", "3", "--options", *options]
    kill_half_way(command, partial=partial / "rank0.jsonl", num_lines=3)
    assert chosen_by(long_data, model_folder, out, "-k", "2") == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert f"{partial} holds frames chosen with select.k 3, now 2; name another --out, or start over with" in said
    assert chosen_by(long_data, model_folder, out, "-k", "2", "--force") == 0
    assert {len(row) for row in read_frames(out).rows} == {2}


def test_a_selector_that_does_not_know_a_question_ends_the_run(
    data: Path, model_folder: Path, tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first.jsonl"
    first.write_text(alone.read_text().partition("\n")[0] + "\n")
    selector = f"{{policy: {{name: frames_file, path: {first}}}}}"
    assert chosen_by(data, model_folder, tmp_path / "frames.jsonl", "--selector", selector) == EXIT_USER_ERROR
    assert f"{first} has no frames of question " in capsys.readouterr().err
    options = [*settings(data, model=model_folder, output=tmp_path / "run"), f"model.selector={selector}"]
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *options]) == EXIT_USER_ERROR
    assert f"{first} has no frames of question " in capsys.readouterr().err
