"""What `sevila evaluate` does beside evaluating: comparing, fitting, grounding, and refusing."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from tests.architecture.source import ROOT
from tests.integration.evaluation.benchmarks import options, read_lines, recipe, write_frames
from tests.integration.evaluation.questions import KINDS, NUM_QUESTIONS, settings, write_questions
from tests.integration.training.tiny_run import write_tiny_model
from tests.unit.selection.scorers.networks import save_network
from tests.videos import write_video


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an evaluation by each of the three ways to answer."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in ("inference", "uniform", "voting"):
        changed = settings(data, model=model_folder, output=folder / stage)
        assert main(["evaluate", "--cfg-path", str(recipe("nextqa", stage)), "--options", *changed]) == 0
    return folder


def read_metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_uniform_frames_are_all_read_and_not_scored(runs: Path) -> None:
    for row in read_lines(runs / "uniform" / "predictions.jsonl"):
        assert row["keyframe_times_s"] == row["frame_times_s"]
        assert row["frame_scores"] == []


def test_frames_are_chosen_by_another_model_whose_weights_are_part_of_the_evaluation(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, output = save_network(tmp_path / "clip", "clip"), tmp_path / "run"
    chosen = f"model.selector={{scorer: {{name: dual_encoder, model: {network}}}, policy: top_k}}"
    command = ["evaluate", "--cfg-path", str(recipe("nextqa", "inference")), "--options"]
    command += [*settings(data, model=model_folder, output=output), chosen]
    assert main(command) == 0
    rows = [row for row in read_lines(output / "predictions.jsonl") if not row["unreadable"]]
    assert rows
    for row in rows:
        score_at = dict(zip(row["frame_times_s"], row["frame_scores"], strict=True))
        others = [score for time, score in score_at.items() if time not in row["keyframe_times_s"]]
        assert min(score_at[time] for time in row["keyframe_times_s"]) >= max(others, default=-math.inf)
    assert main(command) == 0  # nothing is left to do
    save_network(network, "clip", seed=1)
    capsys.readouterr()
    assert main(command) == EXIT_USER_ERROR
    assert "holds predictions made with other scorer._selector.scorer._loaded.fingerprint" in capsys.readouterr().err


def test_frames_that_vote_are_kept_and_measured_three_ways(runs: Path) -> None:
    rows = read_lines(runs / "voting" / "predictions.jsonl")
    assert {len(row["frame_choices"]) for row in rows if not row["unreadable"]} == {6}
    found = {name: report["overall"]["percent"] for name, report in read_metrics(runs / "voting")["voting"].items()}
    hits = [[choice == row["answer"] for choice in row["frame_choices"]] for row in rows]
    share = 100 / NUM_QUESTIONS
    assert found["voting"] == pytest.approx(share * sum(row["choice"] == row["answer"] for row in rows))
    assert found["frame_mean"] == pytest.approx(share * sum(sum(one) / 6 for one in hits))
    assert found["oracle"] == pytest.approx(share * sum(any(one) for one in hits))
    assert "any frame right (upper bound)" in (runs / "voting" / "report.md").read_text()


def test_the_report_holds_every_type_and_group(runs: Path) -> None:
    text = (runs / "inference" / "report.md").read_text()
    assert [kind for kind in (*KINDS, "Tem", "Cau", "Des") if f"| {kind} |" not in text] == []
    assert "| all questions (question-weighted) |" in text
    assert "| mean of 3 types |" in text


def test_two_evaluations_are_compared_question_by_question(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    first, second = runs / "inference", runs / "voting"
    assert main(["evaluate", "compare", str(first), str(second), "--out", str(tmp_path / "c.json")]) == 0
    right = [[row["choice"] == row["answer"] for row in read_lines(f / "predictions.jsonl")] for f in (first, second)]
    only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    found = json.loads((tmp_path / "c.json").read_text())
    assert [found["only_first"], found["only_second"], found["questions"]] == [*only, NUM_QUESTIONS]
    assert "(exact McNemar)" in capsys.readouterr().out


def test_runs_over_different_questions_are_compared_only_where_they_meet(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = read_lines(runs / "voting" / "predictions.jsonl")[3:]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    command = ["evaluate", "compare", str(runs / "inference"), str(tmp_path)]
    assert main(command) == 2
    assert "3 questions are in one run only" in capsys.readouterr().err
    assert main([*command, "--common-only"]) == 0
    assert f"points on {NUM_QUESTIONS - 3} questions" in capsys.readouterr().out


def test_moments_are_fitted_on_val_and_refused_on_test(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mp4", num_frames=20, fps=1)
    row = {"video": "v", "qid": "QVHighlight_1", "query": "a dog", "duration": 20, "relevant_windows": [[4, 8]]}
    for split in ("val", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps([row]))
        changed = [
            *options("qvh", model=model_folder, output=tmp_path / f"run_{split}", split=split),
            f"datasets.qvh.build_info.videos.storage={tmp_path}/videos",
            f"datasets.qvh.build_info.annotations.{split}.storage={tmp_path}/{split}.json",
        ]
        assert main(["evaluate", "--cfg-path", str(recipe("qvh")), "--options", *changed]) == 0
    capsys.readouterr()
    assert main(["evaluate", "fit-moments", str(tmp_path / "run_val"), "--out", str(tmp_path / "fit.json")]) == 0
    fitted = json.loads((tmp_path / "fit.json").read_text())
    assert capsys.readouterr().out.splitlines()[1:] == [
        "moments:",
        f"  threshold: {'null' if fitted['threshold'] is None else fitted['threshold']!r}",
        f"  max_gap_frames: {fitted['max_gap_frames']}",
        f"  span_score: {fitted['span_score']}",
    ]
    assert main(["evaluate", "fit-moments", str(tmp_path / "run_test")]) == 2
    assert "fitted on the split val, never on 'test'" in capsys.readouterr().err
    (tmp_path / "val.json").write_text(json.dumps([{**row, "relevant_windows": [[0, 2]]}]))
    assert main(["evaluate", "fit-moments", str(tmp_path / "run_val")]) == 2
    assert "has changed since" in capsys.readouterr().err


def test_moments_cannot_be_fitted_on_answers(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "fit-moments", str(runs / "inference")]) == 2
    assert "holds answers to questions" in capsys.readouterr().err


def test_nextgqa_is_measured_by_where_answers_were_found(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "data"))
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "map_vid_vidorID.json").write_text('{"401": "1100/401"}')
    question = "401,why is it red,paint,{},CW,rust,paint,light,blood,wine\n"
    header = "video_id,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    (raw / "test.csv").write_text(header + question.format(3) + question.format(4))
    location = {"3": [[0, 8]], "4": [[7.9, 8]]}
    (raw / "gsub_test.json").write_text(json.dumps({"401": {"duration": 8, "location": location, "fps": 3}}))
    assert main(["prepare", "nextgqa", "--raw", str(raw), "--out", str(tmp_path / "data")]) == 0
    write_frames(tmp_path / "data" / "nextqa" / "videos" / "1100" / "401")
    changed = options("nextqa", model=model_folder, output=tmp_path / "run", split="test")
    changed.append("datasets.nextqa.build_info.videos.fps=3")
    assert main(["evaluate", "--cfg-path", str(recipe("nextgqa")), "--options", *changed]) == 0
    metrics = read_metrics(tmp_path / "run")
    rows = read_lines(tmp_path / "run" / "predictions.jsonl")
    right = 50 * sum(row["choice"] == row["answer"] for row in rows)
    spans = [(row["keyframe_times_s"][0], row["keyframe_times_s"][-1]) for row in rows]
    overlap = max(0.0, min(spans[1][1], 8) - max(spans[1][0], 7.9))
    found = metrics["grounding"]["keyframes"]
    assert (found["Acc@QA"], found["questions"]) == (right, 2)
    assert found["mIoP"] == pytest.approx(50 + 50 * overlap / (spans[1][1] - spans[1][0]))
    assert found["IoU@0.3"] in (0, 50)
    assert set(metrics["grounding"]) == {"keyframes", "frame_scores"}
    assert "| Acc@GQA |" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no recipe; give --recipe NAME or --cfg-path YAML, or see: sevila evaluate --help"),
        (["--cfg-path", "none.yaml"], "no configuration file at none.yaml"),
        (["--cfg-path", "RECIPE", "--options", "frame_num"], "'frame_num' is not of the form key=value"),
        (["--cfg-path", "RECIPE", "--options", "model.frame_nun=1"], "did you mean 'frame_num'?"),
        (["--cfg-path", "RECIPE", "--options", "run.test_splits=[dev]"], "run.test_splits: unknown 'dev'"),
        (["--cfg-path", "RECIPE", "--options", "run.output_dir=/dev/null/x"], "run.output_dir /dev/null/x cannot be"),
        (["comparee", "a", "b"], "unknown 'comparee'; did you mean 'compare'?"),
        (["compare", "a", "b"], "a holds no predictions.jsonl; evaluate to the end first"),
        (["fit-moments", "a"], "a holds no evaluation: evaluation.json is missing or damaged"),
        (["moments", "--submission", "a.jsonl", "--gt", "b.jsonl"], "cannot read a.jsonl"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    arguments: list[str],
    message: str,
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    small = settings(data, model=model_folder, output=tmp_path / "run")
    words = [str(recipe("nextqa")) if word == "RECIPE" else word for word in arguments]
    at = words.index("--options") + 1 if "--options" in words else len(words)
    assert main(["evaluate", *words[:at], *(small if "--options" in words else []), *words[at:]]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line


def test_the_folder_of_a_training_run_is_left_alone(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.jsonl").touch()
    changed = settings(data, model=model_folder, output=tmp_path)
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *changed]) == 2
    assert f"{tmp_path} holds a training run; name another run.output_dir" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_questions_and_searches_are_evaluated_apart(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((data / "val.json").read_text())
    (tmp_path / "mixed.json").write_text(json.dumps([rows[0], {"video": "v0", "qid": "S_1", "query": "a dog"}]))
    changed = settings(data, model=model_folder, output=tmp_path / "run")
    changed.append(f"datasets.nextqa.build_info.annotations.val.storage={tmp_path}/mixed.json")
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *changed]) == 2
    assert "holds questions ('TN_0') and searches ('S_1'); evaluate them apart" in capsys.readouterr().err


def test_the_script_starts_the_processes_it_is_asked_for(data: Path, model_folder: Path, tmp_path: Path) -> None:
    script = ROOT / "run_scripts" / "sevila" / "inference" / "nextqa_infer.sh"
    environment = {**os.environ, "PYTHON": sys.executable, "NUM_PROCESSES": "1", "OMP_NUM_THREADS": "1"}
    changed = settings(data, model=model_folder, output=tmp_path / "run")
    subprocess.run(["sh", str(script), *changed], check=True, cwd=tmp_path, env=environment, timeout=1200)
    assert read_metrics(tmp_path / "run")["questions"] == NUM_QUESTIONS
