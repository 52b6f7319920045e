"""`sevila compare-selectors` as people run it: figures, pairs, going on after a kill, and mistakes."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.common.types import Integers, Question
from lavis.models.base import Reading
from lavis.models.frames import FrameSource
from lavis.models.sevila.model import SeViLA, SeViLAAnswerer
from tests.architecture.source import ROOT
from tests.integration.evaluation.benchmarks import (
    options,
    read_lines,
    recipe,
    without_time,
    write_benchmark,
    write_clips,
)
from tests.integration.evaluation.questions import MISSING, NUM_QUESTIONS, settings
from tests.integration.training.tiny_run import torchrun

SELECTORS = ("localizer", "uniform", "coarse_to_fine", "{scorer: motion, policy: aks, label: by motion}")
CELLS = [f"{name}/k{k}" for name in ("localizer", "uniform", "coarse_to_fine", "by_motion") for k in (1, 3)]


def command(data: Path, model: Path, out: Path, *more: str, selectors: Sequence[str] = SELECTORS) -> list[str]:
    chosen = ["--selectors", *selectors, "--k", "1", "3", "--split", "val", *more]
    return ["compare-selectors", str(recipe("nextqa")), *chosen, "--options", *settings(data, model=model, output=out)]


@pytest.fixture(scope="module")
def compared(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    assert main(command(data, model_folder, out)) == 0
    return out


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return found


def predictions(folder: Path, cell: str) -> list[dict[str, Any]]:
    return without_time(read_lines(folder / "selectors" / cell / "predictions.jsonl"))


def test_every_selector_is_an_evaluation_of_every_question(
    compared: Path, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    ids = [row["qid"] for row in json.loads((data / "val.json").read_text())]
    for cell in CELLS:
        assert [row["id"] for row in predictions(compared, cell)] == ids
    # The same as what `sevila evaluate` says, but for what all frames scored, which is not kept.
    given = settings(data, model=model_folder, output=tmp_path / "alone")
    options = [*given, "model.selector=coarse_to_fine", "model.frame_num=3"]
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *options]) == 0
    alone = read_lines(tmp_path / "alone" / "predictions.jsonl")
    for one, other in zip(predictions(compared, "coarse_to_fine/k3"), alone, strict=True):
        assert (one["keyframe_idx"], one["choice"]) == (other["keyframe_idx"], other["choice"])
        assert one["option_scores"] == pytest.approx(other["option_scores"], abs=1e-4)
        assert one["unreadable"] == other["unreadable"]


def test_the_figures_are_those_of_the_predictions(compared: Path) -> None:
    found = figures(compared)
    assert [(row["selector"], row["k"]) for row in found["rows"]] == [
        (name, k) for name in ("localizer", "uniform", "coarse_to_fine", "by motion") for k in (1, 3)
    ]
    right = {}
    for cell, row in zip(CELLS, found["rows"], strict=True):
        rows = predictions(compared, cell)
        right[cell] = [one["choice"] == one["answer"] for one in rows]
        assert row["accuracy"]["percent"] == pytest.approx(100 * sum(right[cell]) / NUM_QUESTIONS)
        assert (row["questions"], row["unreadable"]) == (NUM_QUESTIONS, 3)
        assert row["frames_read"] == row["k"]
        pair = row["against"]["uniform"]
        if cell.startswith("uniform"):
            assert pair is None
        else:
            other = right.get(f"uniform/k{row['k']}") or [
                one["choice"] == one["answer"] for one in predictions(compared, f"uniform/k{row['k']}")
            ]
            only = sum(a and not b for a, b in zip(right[cell], other, strict=True))
            assert pair["only_first"] == only
    costs = {(row["selector"], row["k"]): row["cost"] for row in found["rows"]}
    assert costs["uniform", 1]["frames_scored"] == costs["uniform", 1]["frames_looked_at"] == 0
    assert costs["localizer", 3]["frames_scored"] == costs["localizer", 3]["frames_looked_at"] == 6
    assert costs["coarse_to_fine", 1]["frames_scored"] == 6  # so few frames leave nothing to save
    assert costs["by motion", 1]["frames_looked_at"] == 6


def test_the_page_and_the_picture_show_them(compared: Path) -> None:
    page = (compared / "comparison.md").read_text()
    assert "UNTRAINED WEIGHTS" in page
    assert f"* {NUM_QUESTIONS} questions about 4 videos, 3 unreadable (counted as wrong)" in page
    assert page.count("| by motion |") == 2
    assert (compared / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_two_selectors_are_compared_by_the_command_for_evaluations(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(compared / "selectors" / cell) for cell in ("localizer/k3", "uniform/k3")]
    assert main(["evaluate", "compare", *folders]) == 0
    pair = next(row for row in figures(compared)["rows"] if (row["selector"], row["k"]) == ("localizer", 3))
    assert f"difference {pair['against']['uniform']['difference']:+.2f} points" in capsys.readouterr().out


class Counted:
    """Notes what the Answerer is asked, and how many frames are encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, tuple[int, ...]]] = []
        self.encoded = 0
        answer, features = SeViLAAnswerer.answer, SeViLA.features

        def asked(
            answerer: SeViLAAnswerer, frames: FrameSource, positions: Integers, questions: Sequence[Question]
        ) -> list[Reading]:
            pairs = zip(questions, positions, strict=True)
            self.asked += [(one.id, tuple(row.tolist())) for one, row in pairs]
            return answer(answerer, frames, positions, questions)

        def recorded(model: SeViLA, pixels: Any) -> Any:
            self.encoded += len(pixels)
            return features(model, pixels)

        monkeypatch.setattr(SeViLAAnswerer, "answer", asked)
        monkeypatch.setattr(SeViLA, "features", recorded)


def test_nothing_is_asked_or_encoded_twice(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    more = ("--max-videos", "2")
    assert main(command(data, model_folder, tmp_path / "out", *more, selectors=("uniform", "localizer"))) == 0
    assert len(counted.asked) == len(set(counted.asked)) > 0
    first = set(counted.asked)
    # Two clips of six frames; the first one also to try the selectors on.
    assert counted.encoded == 3 * 6
    # Another selector, which chooses the same frames: nothing is left to ask.
    same = "{policy: {name: uniform}, label: even}"
    counted.asked.clear()
    chosen = ("uniform", "localizer", same, "random")
    assert main(command(data, model_folder, tmp_path / "out", *more, selectors=chosen)) == 0
    assert not set(counted.asked) & first
    assert len(counted.asked) == len(set(counted.asked))
    assert predictions(tmp_path / "out", "even/k3") == predictions(tmp_path / "out", "uniform/k3")


def test_a_killed_comparison_goes_on_to_the_identical_result(
    compared: Path, data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = command(data, model_folder, out)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    notes = out / "shared" / "rank0.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "lavis", *arguments], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 600
        while process.poll() is None and time.monotonic() < deadline:
            if notes.exists() and notes.read_bytes().count(b"\n") >= 60:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / "comparison.json").exists()
    kept = [row for row in read_lines(notes) if "reading" in row]
    counted = Counted(monkeypatch)
    assert main(arguments) == 0
    assert not {(row["id"], tuple(row["positions"])) for row in kept} & set(counted.asked)
    for cell in CELLS:
        for one, other in zip(predictions(out, cell), predictions(compared, cell), strict=True):
            assert (one["keyframe_idx"], one["choice"]) == (other["keyframe_idx"], other["choice"])
    kinds = ("accuracy", "against", "frames_read", "unreadable")
    rows = [[[row[kind] for kind in kinds] for row in figures(folder)["rows"]] for folder in (out, compared)]
    assert rows[0] == rows[1]


def test_two_processes_count_every_question_once(
    compared: Path, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    arguments = command(data, model_folder, tmp_path / "out", selectors=SELECTORS[:2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    script = tmp_path / "sevila.py"
    script.write_text("import sys\nfrom lavis.cli.main import main\nsys.exit(main())\n")
    done = subprocess.run([*torchrun(2), str(script), *arguments], env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    for cell in CELLS[:4]:
        found, alone = ([(one["id"], one["choice"], one["keyframe_idx"]) for one in rows] for rows in (
            predictions(tmp_path / "out", cell), predictions(compared, cell)
        ))  # fmt: skip
        assert found == alone


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("windows", "error: selector 'windows': question 'TN_0' has no windows to choose frames from"),
        ("{scorer: windows, policy: aks}", "error: selector 'aks by windows': question 'TN_0' has no windows to score"),
        ("mdp3", "error: selector 'mdp3' with k = 1: "),
        ("{policy: {name: aks, published: true}}", "error: selector 'aks' with k = 1: "),
        ("lokalizer", "error: selector 'lokalizer': unknown frame selector 'lokalizer'; did you mean 'localizer'?"),
        ("{scorer: {name: scores_file, path: gone.json}}", "error: selector {"),
    ],
)
def test_a_selector_that_does_not_suit_is_refused_before_anything_runs(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], selector: str, message: str
) -> None:
    assert main(command(data, model_folder, tmp_path / "out", selectors=("uniform", selector))) == EXIT_USER_ERROR
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith(message)
    assert not (tmp_path / "out" / "selectors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--options", "datasets.nextqa.vis_processor.eval.n_frms=5"], "vis_processor.eval.n_frms 6, now 5"),
        (["--model", "tiny"], "holds a comparison made with other weights"),
    ],
)
def test_another_model_or_other_frames_do_not_go_on(
    compared: Path, data: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    given = command(data, model_folder, compared)
    if "--model" in change:  # options win over it
        given = [one for one in given if not one.startswith("model.model_type=")]
    assert main([*given, *change]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err


def test_another_argument_of_a_selector_does_not_go_on(
    compared: Path, data: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "{scorer: motion, policy: {name: aks, depth: 2}, label: by motion}"
    assert main(command(data, model_folder, compared, selectors=("uniform", other))) == EXIT_USER_ERROR
    assert "holds predictions made with scorer._selector.policy" in capsys.readouterr().err


def test_unreadable_videos_are_named(compared: Path) -> None:
    rows = predictions(compared, "localizer/k1")
    assert {row["video"] for row in rows if row["unreadable"]} == {MISSING}


def test_the_command_of_the_documentation_runs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "selection.md").read_text().partition("\n## Comparing\n")[2]
    (written,) = [line for line in page.splitlines() if line.startswith("$ sevila compare-selectors")]
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path))
    (tmp_path / "nextqa").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    small = ["--max-videos", "1", "--num-frames", "4", "--device", "cpu", "--options", "run.num_workers=0"]
    assert main([*shlex.split(written)[2:], *small]) == 0
    assert len(figures(tmp_path / "output")["rows"]) == 9


def test_of_searches_only_which_frames_are_chosen_is_measured(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path))
    write_benchmark("qvh", data=tmp_path, clips=write_clips(tmp_path / "clips"))
    chosen = ["--selectors", "localizer", "windows", "--k", "2", "--split", "val"]
    given = options("qvh", model=model_folder, output=tmp_path / "out")
    assert main(["compare-selectors", str(recipe("qvh")), *chosen, "--options", *given]) == 0
    found = figures(tmp_path / "out")
    rows = {row["selector"]: row for row in found["rows"]}
    assert (found["kind"], list(rows)) == ("moments", ["localizer", "windows", "uniform"])
    assert all(row["accuracy"] is None and row["against"] == {"uniform": None, "first": None} for row in rows.values())
    # 6 frames of 150 s: one every 25 s, and some windows are shorter.
    assert rows["windows"]["windows"]["any"]["percent"] >= rows["localizer"]["windows"]["any"]["percent"]
    assert rows["localizer"]["cost"]["frames_scored"] == 6
    assert "| selector | inside | read |" in (tmp_path / "out" / "comparison.md").read_text()
    (one, *_) = predictions(tmp_path / "out", "localizer/k2")
    assert (one["choice"], len(one["keyframe_idx"]), one["unreadable"]) == (None, 2, None)
