"""Frames chosen by scorers other than the Localizer, as a user asks for them."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.models.loading import load_model
from tests.e2e.conftest import ROOT, Sevila
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


def test_a_policy_decides_how_many_frames_are_read(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    selector = "{scorer: noise, policy: top_k, k: 9}"
    assert main(["answer", str(clip), *QUESTION, "--selector", selector, "--num-keyframes", "auto", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    ranked = sorted((frame["score"] for frame in record["frame_scores"]), reverse=True)[:10]
    gaps = [first - second for first, second in pairwise(ranked)]
    assert record["num_keyframes"] == len(record["keyframes"]) == gaps.index(max(gaps)) + 1


def test_so_many_frames_a_second_are_watched_and_the_cost_is_told(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["answer", str(clip), *QUESTION, "--sample-fps", "1", "--no-cache", "--token-budget"]
    each = load_model("sevila", "tiny").answerer.num_queries
    assert main([*command, str(2 * each), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [frame["time_s"] for frame in record["frame_scores"]] == pytest.approx([0, 1, 2, 3])
    assert record["num_keyframes"] == 2
    cost = {name: value for name, value in record["cost"].items() if name != "seconds"}
    assert cost == {"frames_decoded": 4, "frames_scored": 4, "scorer_calls": 1, "frame_tokens": 2 * each}
    assert main([*command, str(2 * each)]) == 0
    assert f"frames: 4 decoded, 4 scored in 1 call, {2 * each} tokens of frames read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--num-frames", "4", "--sample-fps", "1"),
            "cannot watch 4 frames and 1 frame a second; give one of",
        ),
        (("--sample-fps", "0"), "cannot sample 0 frames a second; give a number above 0"),
        (("--num-keyframes", "auto", "--selector", "aks"), "does not decide how many frames are read; say how many"),
        (("--num-keyframes", "2", "--token-budget", "64"), "give 2 keyframes or a budget of 64 tokens, not both"),
    ],
)
def test_how_many_frames_cannot_be_said_so(
    clip: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["answer", str(clip), *QUESTION, *options]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


DOCUMENTED = re.findall(r"^\$ (sevila answer clip.mp4 .*)$", (ROOT / "docs" / "selection.md").read_text(), re.MULTILINE)
# Those with weights run in `integration/training/test_selectors.py`, which trains them.
COMMANDS = [command for command in DOCUMENTED if "weights:" not in command]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_documentation_run(
    command: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").symlink_to(clip)
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(command)[1:], "--json", "--no-cache"]) == 0
    assert json.loads(capsys.readouterr().out)["num_keyframes"] >= 1


def test_there_are_such_commands() -> None:
    assert len(COMMANDS) >= 3
