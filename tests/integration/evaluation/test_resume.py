"""An evaluation that is killed goes on where it was, and ends with the very same results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lavis.cli.main import main
from lavis.models.sevila.model import SeViLA
from tests.architecture.source import ROOT
from tests.integration.evaluation.benchmarks import read_lines, recipe, without_time
from tests.integration.evaluation.questions import MISSING, NUM_QUESTIONS, settings
from tests.videos import write_video


def evaluate(options: list[str]) -> int:
    return main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *options])


@pytest.fixture(scope="module")
def long_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips of one video, two questions each: long enough to be killed half-way."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "v.mp4", num_frames=80, fps=8)
    texts = {"a0": "a dog", "a1": "a bär", "a2": "a boat"}
    rows = [
        {"video": "v", "qid": f"CW_{number}", "question": f"What is {number}", "answer": 0, **texts}
        | {"start": number // 2 * 0.1, "end": number // 2 * 0.1 + 2}
        for number in range(60)
    ]
    (folder / "val.json").write_text(json.dumps(rows))
    return folder


def kill_half_way(options: list[str], *, partial: Path, num_lines: int) -> None:
    command = [sys.executable, str(ROOT / "evaluate.py"), "--cfg-path", str(recipe("nextqa")), "--options", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 600
        while process.poll() is None and time.monotonic() < deadline:
            if partial.exists() and partial.read_bytes().count(b"\n") >= num_lines:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)


def test_a_killed_evaluation_goes_on_to_the_identical_result(
    long_data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert evaluate(settings(long_data, model=model_folder, output=whole)) == 0
    options = settings(long_data, model=model_folder, output=killed)
    partial = killed / "partial" / "rank0.jsonl"
    kill_half_way(options, partial=partial, num_lines=9)
    lines = partial.read_bytes().splitlines(keepends=True)
    assert 9 <= len(lines) < 60
    assert not (killed / "predictions.jsonl").exists()
    # As if the kill had come while a line was being written, in the middle of a letter.
    partial.write_bytes(b"".join(lines) + '{"id": "CW_59", "video": "\u00e4'.encode()[:-1])

    encoded = []
    features = SeViLA.features

    def recorded(self: SeViLA, pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(SeViLA, "features", recorded)
    assert evaluate(options) == 0
    assert 0 < len(encoded) <= 30 - 4
    assert without_time(read_lines(killed / "predictions.jsonl")) == without_time(
        read_lines(whole / "predictions.jsonl")
    )
    assert (killed / "metrics.json").read_text() == (whole / "metrics.json").read_text()


@pytest.fixture(scope="module")
def first_run(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("first") / "run"
    assert evaluate(settings(data, model=model_folder, output=output)) == 0
    return output


@pytest.fixture
def finished(first_run: Path, tmp_path: Path) -> Path:
    """A folder with a finished evaluation, to do with what a test wants."""
    return Path(shutil.copytree(first_run, tmp_path / "run"))


def forbid_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: SeViLA, _pixels: object) -> None:
        pytest.fail("a video is watched that was watched before")

    monkeypatch.setattr(SeViLA, "features", refuse)


def test_a_finished_evaluation_is_not_done_again(
    finished: Path, data: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_lines(finished / "predictions.jsonl")
    forbid_encoding(monkeypatch)
    assert evaluate(settings(data, model=model_folder, output=finished)) == 0
    assert read_lines(finished / "predictions.jsonl") == before


def test_a_clip_of_which_a_question_is_missing_is_asked_all_its_questions_again(
    finished: Path, data: Path, model_folder: Path
) -> None:
    before = read_lines(finished / "predictions.jsonl")
    kept = [row for row in before if row["id"] != before[0]["id"]]
    (finished / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert evaluate(settings(data, model=model_folder, output=finished)) == 0
    after = read_lines(finished / "predictions.jsonl")
    assert without_time(after) == without_time(before)
    again = {row["id"] for row, old in zip(after, before, strict=True) if row["seconds"] != old["seconds"]}
    assert again == {row["id"] for row in before if row["video"] == "v0" and row["frame_times_s"][-1] > 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.frame_num=3", "model.frame_num 2, now 3"),
        ("model.selector=uniform", "model.task: selector 'localizer', now 'uniform'"),
        ("datasets.nextqa.vis_processor.eval.n_frms=5", "datasets.nextqa.vis_processor.eval.n_frms 6, now 5"),
        ("datasets.nextqa.prompt=next_event", "datasets.nextqa.prompt 'multiple_choice', now 'next_event'"),
        ("model.dtype=bf16", "other weights"),
        ("run.seed=43", "run.seed 42, now 43"),
        (
            "datasets.nextqa.build_info.videos.reader=decord",
            "datasets.nextqa.build_info.videos.reader 'pyav', now 'decord'",
        ),
        ("datasets.nextqa.build_info.videos.fps=3", "datasets.nextqa.build_info.videos.fps None, now 3.0"),
    ],
)
def test_predictions_made_differently_are_refused(
    finished: Path,
    data: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    message: str,
) -> None:
    before = (finished / "predictions.jsonl").read_bytes()
    assert evaluate([*settings(data, model=model_folder, output=finished), change]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{finished} holds predictions made with {message}; name another run.output_dir" in error
    assert (finished / "predictions.jsonl").read_bytes() == before


def test_other_annotations_are_refused(
    finished: Path, data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((data / "val.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps([{**rows[0], "answer": 2}, *rows[1:]]))
    storage = f"datasets.nextqa.build_info.annotations.val.storage={tmp_path}/other.json"
    assert evaluate([*settings(data, model=model_folder, output=finished), storage]) == 2
    assert "other datasets.nextqa.build_info.annotations" in capsys.readouterr().err


def test_starting_over_has_to_be_asked_for(finished: Path, data: Path, model_folder: Path) -> None:
    options = settings(data, model=model_folder, output=finished, resume="never")
    assert evaluate([*options, "model.frame_num=3"]) == 0
    rows = read_lines(finished / "predictions.jsonl")
    assert len(rows) == NUM_QUESTIONS
    assert {len(row["keyframe_idx"]) for row in rows} == {0, 3}


def test_predictions_of_quantised_weights_are_others(
    finished: Path, data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def quantised(output: Path) -> int:
        options = settings(data, model=model_folder, output=output)
        return main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--quantize", "int8", "--options", *options])

    assert quantised(tmp_path) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["quantize"] == "int8"
    assert quantised(finished) == 2
    assert "predictions made with quantize None, now 'int8'" in capsys.readouterr().err


def test_predictions_of_a_compiled_model_are_others(
    finished: Path, data: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = settings(data, model=model_folder, output=finished)
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--compile", "--options", *options]) == 2
    assert "predictions made with compile False, now True" in capsys.readouterr().err


def test_predictions_of_a_selector_with_other_settings_are_others(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = settings(data, model=model_folder, output=tmp_path / "run")
    assert evaluate([*options, "model.selector=coarse_to_fine"]) == 0
    # The same parts by name and with the defaults' values are the same selector.
    policy = "model.selector.policy"
    assert evaluate([*options, f"{policy}.name=coarse_to_fine", f"{policy}.gap=8"]) == 0
    assert evaluate([*options, f"{policy}.name=coarse_to_fine", f"{policy}.gap=2"]) == 2
    assert "predictions made with scorer._selector.policy._gap 8, now 2" in capsys.readouterr().err


def test_settings_that_change_no_answer_let_an_evaluation_go_on(
    finished: Path, data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(model_folder, tmp_path / "model")
    shutil.copytree(data / "videos", tmp_path / "videos")
    forbid_encoding(monkeypatch)
    options = settings(data, model=model, output=finished, batch_size_eval=3, num_workers=1, init_lr=1.0, device="null")
    moved = f"datasets.nextqa.build_info.videos.storage={tmp_path}/videos"
    assert evaluate([*options, "moments.max_gap_frames=2", moved, "model.task=chained_inference"]) == 0


def _rewritten(finished: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = read_lines(finished / "predictions.jsonl")
    change(rows)
    (finished / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _set(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[0].update(values)


def _exchange_ids(rows: list[dict[str, Any]]) -> None:
    """Of two questions about the same video with the same annotated answer."""
    pairs = [
        (a, b) for a in rows for b in rows if (a["video"], a["answer"]) == (b["video"], b["answer"]) and a is not b
    ]
    one, other = next(
        (a, b) for a, b in pairs if a["choice"] != b["choice"] or a["option_scores"] != b["option_scores"]
    )
    one["id"], other["id"] = other["id"], one["id"]


def _exchange_ids_of_videos(rows: list[dict[str, Any]]) -> None:
    other = next(row for row in rows if row["video"] != rows[0]["video"])
    rows[0]["id"], other["id"] = other["id"], rows[0]["id"]


def _double(rows: list[dict[str, Any]]) -> None:
    rows.append({**rows[0], "choice": (rows[0]["choice"] + 1) % 3})


def _rename(rows: list[dict[str, Any]]) -> None:
    rows[0]["id"] = "CW_1000"


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        _set(choice="two"),
        _set(choice=77),
        _set(choice=-1),
        _set(choice=float("nan")),
        _set(choice=1.0),
        _set(choice=True),
        _set(choice=None),
        _set(option_scores=[0.0, float("inf"), 1.0]),
        _set(option_scores=[0.0]),
        _set(option_scores="abc"),
        _set(keyframe_idx=[0.5, 1.5]),
        _set(answer=9),
        _set(video=None),
        _set(id=7),
        _set(frame_scores=[1.0]),
        _set(seconds="long"),
        _exchange_ids_of_videos,
        _double,
        _rename,
    ],
)
def test_a_row_that_is_no_prediction_of_its_question_is_made_again_and_said(
    first_run: Path,
    finished: Path,
    data: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[dict[str, Any]]], None],
    sealed: bool,
) -> None:
    """Also where the row carries the checksum of what it says now, or none."""
    _rewritten(finished, change)
    if sealed:
        _rewritten(finished, lambda rows: [row.pop("checksum") for row in rows] and None)
    assert evaluate(settings(data, model=model_folder, output=finished)) == 0
    assert "earlier predictions do not count, and are made again; the first: " in capsys.readouterr().err
    rows, expected = (read_lines(folder / "predictions.jsonl") for folder in (finished, first_run))
    assert without_time(rows) == without_time(expected)
    assert json.loads((finished / "metrics.json").read_text()) == json.loads((first_run / "metrics.json").read_text())


@pytest.mark.parametrize("line", ["no JSON", '{"id": "CW_1", ', "[]", "null", '"text"', "[" * 100_000, "\0"])
def test_a_line_that_is_no_row_is_said_and_the_question_asked_again(
    first_run: Path, finished: Path, data: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    lines = (finished / "predictions.jsonl").read_text().splitlines()
    (finished / "predictions.jsonl").write_text("\n".join([lines[0], line, *lines[2:]]))  # without an end
    assert evaluate(settings(data, model=model_folder, output=finished)) == 0
    said = capsys.readouterr().err
    assert (
        f"1 earlier predictions do not count, and are made again; the first: {finished}/predictions.jsonl, line 2"
        in said
    )
    rows, expected = (read_lines(folder / "predictions.jsonl") for folder in (finished, first_run))
    assert without_time(rows) == without_time(expected)


@pytest.mark.parametrize("change", [_set(choice=2), _set(choice=1), _set(choice=0), _exchange_ids])
def test_a_row_that_was_changed_within_bounds_fails_its_checksum(
    first_run: Path, finished: Path, data: Path, model_folder: Path, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    _rewritten(finished, change)
    assert evaluate(settings(data, model=model_folder, output=finished)) == 0
    rows, expected = (read_lines(folder / "predictions.jsonl") for folder in (finished, first_run))
    assert without_time(rows) == without_time(expected)


def test_damaged_rows_are_not_compared(first_run: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, line in [
        (_set(choice="two"), r"the row of 'TN_0': choice: int is needed, not 'two'"),
        (_set(choice=77), r"the row of 'TN_0' is damaged: choice 77 is none of 3 options"),
    ]:
        shutil.copy(first_run / "predictions.jsonl", finished)
        _rewritten(finished, change)
        assert main(["evaluate", "compare", str(first_run), str(finished)]) == 2
        assert line in capsys.readouterr().err
    shutil.copy(first_run / "predictions.jsonl", finished)
    _rewritten(finished, lambda rows: rows.append(rows[0]))
    assert main(["evaluate", "compare", str(first_run), str(finished)]) == 2
    assert "holds 'TN_0' 2 times" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["replaced", "one byte", "gone"])
def test_questions_about_a_changed_video_are_asked_again_and_no_others(
    first_run: Path,
    finished: Path,
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    """Size and time of the file stay what they were."""
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    video = changed / "videos" / "v2.mp4"
    status, content = video.stat(), bytearray(video.read_bytes())
    if change == "replaced":
        content = bytearray(write_video(tmp_path / "other.mp4", num_frames=56, fps=8).read_bytes())
    elif change == "one byte":
        content[content.index(b"x264")] ^= 1  # of the encoder's name, which changes no picture
    video.write_bytes(content)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    if change == "gone":
        video.unlink()
    options = settings(changed, model=model_folder, output=finished)
    assert evaluate([*options, f"datasets.nextqa.build_info.annotations.val.storage={data}/val.json"]) == 0
    assert "3 questions are asked again: their videos have changed since, such as v2" in capsys.readouterr().err
    rows, before = (read_lines(folder / "predictions.jsonl") for folder in (finished, first_run))
    again = [row["id"] for row, old in zip(rows, before, strict=True) if row["seconds"] != old["seconds"]]
    assert {old["id"] for old in before if old["video"] == "v2"} >= set(again)
    assert all(
        (row["video"] == "v2") == (row["video_sha256"] != old["video_sha256"])
        for row, old in zip(rows, before, strict=True)
    )
    assert evaluate(settings(tmp_path / "data", model=model_folder, output=tmp_path / "new")) == 0
    anew = read_lines(tmp_path / "new" / "predictions.jsonl")
    for row, expected in zip(without_time(rows), without_time(anew), strict=True):
        assert row == expected or (row["unreadable"] and expected["unreadable"])  # where it was looked for


def test_a_video_that_was_missing_and_is_there_now_is_watched(
    finished: Path, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    more = Path(shutil.copytree(data, tmp_path / "data"))
    shutil.copy(more / "videos" / "v0.mp4", more / "videos" / f"{MISSING}.mp4")
    assert evaluate(settings(more, model=model_folder, output=finished)) == 0
    assert not any(row["unreadable"] for row in read_lines(finished / "predictions.jsonl"))
