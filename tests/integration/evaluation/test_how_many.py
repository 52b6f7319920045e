"""How many frames an evaluation watches and reads: a rate, what a policy decides, a budget; and what that cost."""

import json
from pathlib import Path
from typing import Any

import pytest

import lavis
from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.common.types import Span
from tests.integration.evaluation.benchmarks import read_lines, recipe
from tests.integration.evaluation.questions import MISSING, NUM_QUESTIONS, settings

READABLE = NUM_QUESTIONS - 3
PROCESSOR = "datasets.nextqa.vis_processor"


def evaluated(data: Path, model: Path, output: Path, *more: str, flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    options = [*settings(data, model=model, output=output), *more]
    assert main(["evaluate", *flags, "--cfg-path", str(recipe("nextqa")), "--options", *options]) == 0
    return read_lines(output / "predictions.jsonl")


def metrics_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return found


def cost_in(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "cost.json").read_text())
    return found


def test_two_frames_a_second_are_those_of_one_video(data: Path, model_folder: Path, tmp_path: Path) -> None:
    rows = evaluated(*(data, model_folder, tmp_path), f"{PROCESSOR}.eval.n_frms=null", f"{PROCESSOR}.eval.sample_fps=2")
    annotations = {row["qid"]: row for row in json.loads((data / "val.json").read_text())}
    model = lavis.load_model("sevila", model_folder)
    # Videos of 40 frames, 8 a second; clips of 2 seconds, and one of no length.
    lengths = {None: 10, (1.0, 3.0): 4, (0.0, 2.0): 4, (2.0, 2.0): 1}
    for row in (row for row in rows if row["video"] != MISSING):
        asked = annotations[row["id"]]
        clip = (asked["start"], asked["end"]) if "start" in asked else None
        start_s = clip[0] if clip else 0
        assert row["frame_times_s"] == pytest.approx([start_s + number / 2 for number in range(lengths[clip])])
        video = model.watch(data / "videos" / f"{row['video']}.mp4", sample_fps=2, clip=Span(*clip) if clip else None)
        options = [asked[f"a{index}"] for index in range(3)]
        answer = video.ask(asked["question"], options, num_keyframes=min(2, lengths[clip]))
        assert row["keyframe_idx"] == answer.keyframes.frame_idx.tolist()
        assert row["option_scores"] == pytest.approx(answer.option_scores.tolist(), abs=1e-4)
    metrics = metrics_of(tmp_path)
    assert metrics["frames"]["sample_fps"] == 2
    assert "2 frames a second" in (tmp_path / "report.md").read_text()
    # What is decoded is decoded once for all questions about a clip: three videos, and three clips.
    assert cost_in(tmp_path)["frames_decoded"]["sum"] == pytest.approx(3 * 10 + 4 + 4 + 1)


def test_costs_are_told_for_each_question_and_in_all_and_a_cached_clip_costs_no_decoding(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    cache = ("--cache", "--cache-dir", str(tmp_path / "cache"))
    first = evaluated(data, model_folder, tmp_path / "first", flags=cache)
    again = evaluated(data, model_folder, tmp_path / "again", flags=cache)
    num_frames = metrics_of(tmp_path / "first")["frames"]["num_frames"]
    for row in first:
        if row["video"] == MISSING:
            assert row["cost"] is None
        else:
            assert row["cost"]["frames_scored"] == num_frames
            assert row["cost"]["seconds"] == row["seconds"] > 0
    decoded = [sum(row["cost"]["frames_decoded"] for row in rows if row["cost"]) for rows in (first, again)]
    # Six groups of questions are about the same clip and can be read; one is a single frame, which is repeated.
    assert decoded == pytest.approx([5 * num_frames + 1, 0])
    cost = cost_in(tmp_path / "first")
    assert cost["questions"] == READABLE
    assert cost["frames_scored"] == {"sum": READABLE * num_frames, "mean": num_frames}
    assert cost["scorer_calls"]["sum"] == pytest.approx(6)
    assert cost["frames_read"] == {"sum": 2 * READABLE, "mean": 2}
    assert "| frames scored |" in (tmp_path / "first" / "report.md").read_text()


def test_a_policy_decides_up_to_frame_num(data: Path, model_folder: Path, tmp_path: Path) -> None:
    deciding = ("model.selector.scorer=noise", "model.selector.policy.name=top_k", "model.selector.k=auto")
    rows = evaluated(data, model_folder, tmp_path, *deciding, "model.frame_num=3")
    counts = [len(row["keyframe_idx"]) for row in rows if row["cost"]]
    assert set(counts) <= {1, 2, 3}
    assert len(set(counts)) > 1
    assert cost_in(tmp_path)["frames_read"]["sum"] == sum(counts)


def test_a_budget_of_tokens_wins_over_frame_num(data: Path, model_folder: Path, tmp_path: Path) -> None:
    each = lavis.load_model("sevila", model_folder).answerer.num_queries
    rows = evaluated(data, model_folder, tmp_path, f"model.token_budget={3 * each + 1}")
    assert {len(row["keyframe_idx"]) for row in rows if row["cost"]} == {3}
    metrics = metrics_of(tmp_path)
    assert metrics["frames"]["token_budget"] == 3 * each + 1
    assert cost_in(tmp_path)["frame_tokens"]["mean"] == pytest.approx(3 * each)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((f"{PROCESSOR}.eval.sample_fps=1",), "n_frms 6 and sample_fps 1.0; give one of the two, and null for"),
        ((f"{PROCESSOR}.eval.n_frms=null",), "n_frms None and sample_fps None; give one of the two"),
        (
            (f"{PROCESSOR}.train.n_frms=null", f"{PROCESSOR}.train.sample_fps=1"),
            "clips of a batch have equally many frames; set n_frms instead",
        ),
        (("model.selector.k=auto", "model.selector.policy=aks"), "the policy aks does not decide how many frames"),
        (("model.token_budget=1",), "a budget of 1 tokens holds no frame: one takes"),
    ],
)
def test_what_cannot_be_is_one_line(
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    given = [*settings(data, model=model_folder, output=tmp_path), *options]
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *given]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
