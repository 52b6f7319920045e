"""Frames chosen by scorers other than the Localizer, as a user asks for them."""

import json
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.models.loading import load_model
from tests.e2e.conftest import Sevila
from tests.unit.selection.scorers.networks import save_network

QUESTION = ("What is shown?", "--option", "a cat", "--option", "squares")


def answered(capsys: pytest.CaptureFixture[str], clip: Path, selector: str) -> dict[str, Any]:
    assert main(["answer", str(clip), *QUESTION, "--selector", selector, "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def test_frames_are_chosen_by_motion(sevila: Sevila, clip: Path) -> None:
    done = sevila("answer", clip, *QUESTION, "--selector", "{scorer: {name: motion}, policy: top_k, k: 3}", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    scores = [frame["score"] for frame in record["frame_scores"]]
    assert len(scores) == 32
    assert all(0 <= score <= 1 for score in scores)
    assert sorted(one["score"] for one in record["keyframes"]) == sorted(scores)[-3:]


def test_frames_are_chosen_by_a_dual_encoder_from_a_folder_also_in_python(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_network(tmp_path / "siglip", "siglip")
    selector = {"scorer": {"name": "dual_encoder", "model": str(folder)}, "policy": "top_k", "k": 2}
    record = answered(capsys, clip, json.dumps(selector))
    assert len(record["keyframes"]) == 2
    video = load_model("sevila", "tiny").watch(clip, lazy=True)
    again = video.ask("What is shown?", ["a cat", "squares"], selector=selector)
    assert again.keyframes.scores.tolist() == pytest.approx([one["score"] for one in record["keyframes"]], abs=1e-5)
    assert again.text == record["answer"]


def test_frames_are_chosen_by_a_file_of_scores(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question": "What is shown?", "times_s": [0, 1, 2, 3], "scores": [0.1, 0.2, 0.9, 0.3]}
    (tmp_path / "scores.jsonl").write_text(json.dumps(row))
    selector = f"{{scorer: {{name: scores_file, path: {tmp_path / 'scores.jsonl'}}}, k: 4}}"
    times = [one["time_s"] for one in answered(capsys, clip, selector)["keyframes"]]
    assert all(1.4 < time < 2.6 for time in times)


def test_the_frames_of_a_file_are_read_also_in_python(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"schema": "sevila.frames/1", "question_id": "q", "question": "What is shown?", "times_s": [1.0, 2.5, 60.0]}
    (tmp_path / "frames.jsonl").write_text(json.dumps(row))
    selector = {"policy": {"name": "frames_file", "path": str(tmp_path / "frames.jsonl")}}
    record = answered(capsys, clip, json.dumps(selector))
    times = [one["time_s"] for one in record["keyframes"]]
    watched = load_model("sevila", "tiny").watch(clip, lazy=True)
    again = watched.ask("What is shown?", ["a cat", "squares"], selector=selector)
    assert len(times) == 3
    assert times == pytest.approx(again.keyframes.times_s.tolist())
    assert times[:2] == pytest.approx([1.0, 2.5], abs=0.1)
    said = f"1 of 3 frames of {tmp_path / 'frames.jsonl'} are more than half a step off any watched frame"
    assert said in again.caveats
    assert said in record["caveats"]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("{scorer: {name: dual_encoder, model: sig}}", "unknown model 'sig'; did you mean 'siglip'?"),
        ("{scorer: {name: scores_file, path: gone.json}}", "scores file gone.json cannot be read"),
        ("{scorer: {name: scores_file}}", "frame scorer scores_file with {}: "),
        ("{scorer: windows}", "question 'What is shown?' has no windows to score frames by"),
    ],
)
def test_a_mistake_is_one_line(clip: Path, capsys: pytest.CaptureFixture[str], selector: str, message: str) -> None:
    assert main(["answer", str(clip), *QUESTION, "--selector", selector]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
