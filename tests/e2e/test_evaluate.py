"""From each benchmark's raw files to its figures, through the commands that people use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.cli.main import main
from lavis.common.files import configs_dir
from lavis.datasets.annotations import read_annotations
from lavis.models.mixed import MixedModel
from lavis.models.pipeline import watch
from lavis.models.sevila.model import SeViLA
from tests.integration.evaluation.benchmarks import (
    BENCHMARKS,
    NUM_FRAMES,
    options,
    read_lines,
    recipe,
    write_benchmark,
    write_clips,
)
from tests.integration.training.tiny_run import write_tiny_model
from tests.precision import assert_near_float64

MULTIPLE_CHOICE = tuple(name for name in BENCHMARKS if name != "qvh")
PROMPTS = {"vlep": "next_event"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def evaluate(name: str, *, data: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str]) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(data))
    write_benchmark(name, data=data, clips=clips)
    assert main(["evaluate", "--cfg-path", str(recipe(name)), "--options", *settings]) == 0


@pytest.mark.parametrize("name", MULTIPLE_CHOICE)
def test_raw_files_become_the_answers_that_the_pipeline_gives(
    name: str, clips: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = options(name, model=model_folder, output=tmp_path / "run")
    evaluate(name, data=tmp_path, clips=clips, monkeypatch=monkeypatch, settings=settings)
    rows = read_annotations(tmp_path / name / "val.json").rows
    found = read_lines(tmp_path / "run" / "predictions.jsonl")
    assert [prediction["id"] for prediction in found] == [row.question.id for row in rows]

    model = SeViLA.from_pretrained(model_folder)
    for prediction, row in zip(found, rows, strict=True):
        home = tmp_path / (row.source if row.source == "tvqa" else name) / "videos"
        path = home / str(row.question.video) if name == "tvqa" else home / f"{row.question.video}.mp4"
        video = watch(model, path, num_frames=NUM_FRAMES, clip=row.question.clip, fps=3.0)
        (answer,) = video.ask_all([row.question], num_keyframes=2, prompt=PROMPTS.get(name, "multiple_choice"))
        assert prediction["choice"] == answer.index
        for kept, shown in (("option_scores", answer.option_scores), ("frame_scores", answer.keyframes.all_scores)):
            assert_near_float64(np.array(prediction[kept]), shown, dtype=torch.float32)
        assert prediction["keyframe_idx"] == answer.keyframes.frame_idx.tolist()
        assert prediction["keyframe_times_s"] == answer.keyframes.times_s.tolist()
        assert prediction["unreadable"] is None

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    right = [prediction["choice"] == row.question.answer for prediction, row in zip(found, rows, strict=True)]
    assert metrics["accuracy"]["overall"]["percent"] == pytest.approx(100 * np.mean(right))
    assert (metrics["questions"], metrics["unreadable"], metrics["dataset"]) == (len(rows), 0, name)


def test_a_models_configuration_file_is_evaluated(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my.yaml"
    file.write_text((configs_dir() / "models" / "sevila_tiny.yaml").read_text().replace("sevila_tiny", "mine", 1))
    settings = options("nextqa", model=file, output=tmp_path / "run")
    evaluate("nextqa", data=tmp_path, clips=clips, monkeypatch=monkeypatch, settings=settings)
    assert len(read_lines(tmp_path / "run" / "predictions.jsonl")) == len(
        read_annotations(tmp_path / "nextqa" / "val.json").rows
    )


def test_a_chain_of_two_models_is_evaluated(
    clips: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = options("nextqa", model=model_folder, output=tmp_path / "run")
    evaluate(
        "nextqa",
        data=tmp_path,
        clips=clips,
        monkeypatch=monkeypatch,
        settings=[*settings, "chain.scorer=tiny", f"chain.answerer={model_folder}"],
    )
    scorer, answerer = SeViLA.from_pretrained("tiny"), SeViLA.from_pretrained(model_folder)
    for prediction in read_lines(tmp_path / "run" / "predictions.jsonl"):
        path = tmp_path / "nextqa" / "videos" / f"{prediction['video']}.mp4"
        rows = read_annotations(tmp_path / "nextqa" / "val.json").rows
        question = next(row.question for row in rows if row.question.id == prediction["id"])
        video = MixedModel(scorer, answerer).watch(path, num_frames=NUM_FRAMES, clip=question.clip)
        (answer,) = video.ask_all([question], num_keyframes=2)
        assert prediction["keyframe_idx"] == answer.keyframes.frame_idx.tolist()
        np.testing.assert_allclose(prediction["option_scores"], answer.option_scores, rtol=2e-3, atol=2e-3)


def test_raw_files_become_moments_and_a_submission(
    clips: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*options("qvh", model=model_folder, output=tmp_path / "run"), "moments.max_gap_frames=1"]
    evaluate("qvh", data=tmp_path, clips=clips, monkeypatch=monkeypatch, settings=settings)
    model = SeViLA.from_pretrained(model_folder)
    submitted = read_lines(tmp_path / "run" / "submission.jsonl")
    assert [row["qid"] for row in submitted] == [2579, 2580, 2581]
    for row, duration_s in zip(submitted, (126, 150, 150), strict=True):
        video = watch(model, tmp_path / "qvh" / "videos" / f"{row['vid']}.mp4", num_frames=NUM_FRAMES)
        found = video.find(row["query"], max_gap_frames=1)
        expected = [(moment.start_s, min(moment.end_s, duration_s), moment.score) for moment in found.moments]
        if found.moments:
            assert np.array(row["pred_relevant_windows"]) == pytest.approx(np.array(expected), abs=1e-5)
        assert len(row["pred_saliency_scores"]) == duration_s // 2
        assert row["pred_relevant_windows"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    capsys.readouterr()

    raw = Path(__file__).parents[1] / "data" / "raw" / "qvh" / "highlight_val_release.jsonl"
    for protocol, flags in (("corrected", []), ("published", ["--published"])):
        command = ["moments", "--submission", str(tmp_path / "run" / "submission.jsonl"), "--gt", str(raw), *flags]
        assert main(["evaluate", *command, "--out", str(tmp_path / "scores.json")]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"protocol: {protocol}"
        assert json.loads((tmp_path / "scores.json").read_text()) == {
            "protocol": protocol,
            **metrics["moments"][protocol],
        }
