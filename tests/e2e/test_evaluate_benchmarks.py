"""Benchmarks for today's models, from their own files to their figures, through the commands that people use."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from lavis.cli.main import main
from lavis.common.files import configs_dir
from lavis.datasets.annotations import read_annotations
from lavis.models.pipeline import watch
from lavis.models.sevila.model import SeViLA
from tests.integration.evaluation.benchmarks import NUM_FRAMES, options, read_lines, write_clips, write_frames
from tests.integration.evaluation.new_benchmarks import VIDEO_MME_ROW, write_lines
from tests.integration.training.tiny_run import write_tiny_model
from tests.unit.tasks.metrics.test_highlights import slow_precision


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 16 seconds."""
    return write_clips(tmp_path_factory.mktemp("clips")) / "short.mp4"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def documented_command(word: str, *, folder: Path) -> str:
    """Run the Python command of the README that has this word in it, and return what it prints."""
    readme = (Path(__file__).parents[2] / "sevila_data" / "README.md").read_text()
    (command,) = [line for line in readme.splitlines() if line.startswith("python -c") and word in line]
    command = command.replace("python", shlex.quote(sys.executable), 1)
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout


class Bench:
    """A benchmark's raw files and videos in a folder, and the commands over them."""

    def __init__(self, name: str, folder: Path, model: Path) -> None:
        self.name, self.folder, self._model = name, folder, model

    def write(self, name: str, content: Any) -> None:
        path = self.folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def add_video(self, name: str, film: Path) -> None:
        path = self.folder / self.name / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(film, path)

    def evaluate(self, split: str, *settings: str) -> dict[str, Any]:
        """Prepare, check and evaluate; return the metrics."""
        raw, out = self.folder / "raw", self.folder / "run"
        assert main(["prepare", self.name, "--raw", str(raw), "--out", str(self.folder), "--force"]) == 0
        assert main(["check", self.name, "--splits", split, "--workers", "0", "--out", str(self.folder / "check")]) == 0
        recipe = configs_dir() / "hf" / "inference" / f"{self.name}.yaml"
        small = options(self.name, model=self._model, output=out, split=split, resume="never")
        assert main(["evaluate", "--cfg-path", str(recipe), "--options", *small, *settings]) == 0
        metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
        return metrics

    @property
    def predictions(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "run" / "predictions.jsonl")

    @property
    def report(self) -> str:
        return (self.folder / "run" / "report.md").read_text()


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path))
    return Bench(request.param, tmp_path, model_folder)


@pytest.mark.parametrize("bench", ["videomme"], indirect=True)
def test_video_mme_is_measured_by_duration_and_domain_and_hears_its_subtitles(
    bench: Bench, film: Path, model_folder: Path
) -> None:
    rows = [
        {**VIDEO_MME_ROW, "question_id": f"001-{at}", "duration": duration, "domain": domain}
        for at, (duration, domain) in enumerate(
            [("short", "Knowledge"), ("long", "Knowledge"), ("long", "Life Record")]
        )
    ]
    bench.write("test.jsonl", write_lines(rows))
    lines = [f"{at}\n00:00:{at:02},000 --> 00:00:{at + 1:02},000\nword {at}\n" for at in range(16)]
    bench.write("subtitle/fFjv93ACGo8.srt", "\n".join(lines))
    bench.add_video("fFjv93ACGo8.mp4", film)

    bench.evaluate("test")
    silent = [row["option_scores"] for row in bench.predictions]
    metrics = bench.evaluate("test", "datasets.videomme.subtitles=true")
    by_type, slices = metrics["accuracy"]["by_type"], metrics["slices"]
    assert {name: figures["questions"] for name, figures in by_type.items()} == {"short": 1, "long": 2}
    counts = {name: {part: one["questions"] for part, one in figures.items()} for name, figures in slices.items()}
    assert counts["domain"] == {"Knowledge": 2, "Life Record": 1}
    assert list(counts) == ["domain", "sub_category", "task_type"]
    assert "## Accuracy by domain" in bench.report
    assert "| Life Record |" in bench.report

    video = watch(SeViLA.from_pretrained(model_folder), film, num_frames=NUM_FRAMES)
    asked = read_annotations(bench.folder / "videomme" / "test.json").questions
    answers = video.ask_all(list(asked), num_keyframes=2)
    for found, answer, before in zip(bench.predictions, answers, silent, strict=True):
        assert found["option_scores"] == pytest.approx(answer.option_scores.tolist(), abs=1e-4)
        assert not np.allclose(found["option_scores"], before, atol=1e-4)


def test_the_documented_command_makes_jsonl_of_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist([VIDEO_MME_ROW]), tmp_path / "test-00000-of-00001.parquet")
    documented_command("to_json", folder=tmp_path)
    assert read_lines(tmp_path / "test.jsonl") == [VIDEO_MME_ROW]


@pytest.mark.parametrize("bench", ["videomme"], indirect=True)
def test_subtitles_that_are_not_there_are_missed_in_one_line(
    bench: Bench, film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("test.jsonl", write_lines([VIDEO_MME_ROW]))
    bench.add_video("fFjv93ACGo8.mp4", film)
    with pytest.raises(AssertionError):
        bench.evaluate("test", "datasets.videomme.subtitles=true")
    assert "datasets.videomme.subtitles is on, and" in capsys.readouterr().err


@pytest.mark.parametrize("bench", ["mvbench"], indirect=True)
def test_mvbench_reads_parts_of_films_and_of_folders_of_frames(bench: Bench, film: Path) -> None:
    question = {"question": "What?", "candidates": ["He won", "He lost"], "answer": "He lost"}
    bench.write("json/action_sequence.json", [{**question, "video": "ZS9XR.mp4", "start": 4.0, "end": 8.0}])
    bench.write("json/episodic_reasoning.json", [{**question, "video": "castle_00", "start": 2.0, "end": 6.0}])
    bench.write("json/moving_count.json", [{**question, "video": "video_10009.mp4"}])
    bench.add_video("star/Charades_v1_480/ZS9XR.mp4", film)
    bench.add_video("clevrer/video_validation/video_10009.mp4", film)
    write_frames(bench.folder / "mvbench" / "videos" / "tvqa" / "frames_fps3_hq" / "castle_00")
    metrics = bench.evaluate("test")
    assert metrics["unreadable"] == 0
    assert set(metrics["accuracy"]["by_type"]) == {"action_sequence", "episodic_reasoning", "moving_count"}
    times = {row["id"]: row["frame_times_s"] for row in bench.predictions}
    for qid, (start, end) in {"action_sequence_1": (4, 8), "episodic_reasoning_1": (2, 6)}.items():
        assert start <= min(times[qid]) < max(times[qid]) <= end
    assert max(times["moving_count_1"]) > 8


@pytest.mark.parametrize("bench", ["egoschema"], indirect=True)
def test_the_full_set_of_egoschema_is_answered_and_not_measured(bench: Bench, film: Path) -> None:
    rows = [
        {"q_uid": uid, "question": "What does c do?", **{f"option {at}": f"Thing {at}." for at in range(5)}}
        for uid in ("00faf954-74f7", "001934bb-81bd")
    ]
    bench.write("questions.json", rows)
    bench.write("subset_answers.json", {"00faf954-74f7": 3})
    for row in rows:
        bench.add_video(f"{row['q_uid']}.mp4", film)
    metrics = bench.evaluate("test")
    assert (metrics["accuracy"], metrics["without_answer"]) == (None, 2)
    assert bench.report.startswith("# egoschema test: no annotated answers to measure on")
    assert {row["video"]: row["choice"] in range(5) for row in bench.predictions} == {
        "00faf954-74f7": True,
        "001934bb-81bd": True,
    }
    submission = documented_command("predictions.jsonl", folder=bench.folder / "run")
    assert json.loads(submission) == {row["video"]: row["choice"] for row in bench.predictions}
    assert bench.evaluate("val")["accuracy"]["overall"]["questions"] == 1


@pytest.mark.parametrize("bench", ["charades_sta"], indirect=True)
def test_charades_sta_is_measured_by_its_best_windows(bench: Bench, film: Path) -> None:
    bench.write("charades_sta_test.txt", "3MSZA 0.0 16.0##person turn a light on.\nAO8RW 15.5 15.6##a cat.\n")
    for name in ("3MSZA", "AO8RW"):
        bench.add_video(f"{name}.mp4", film)
    metrics = bench.evaluate("test")
    ious = []
    for row, (start, end) in zip(
        read_lines(bench.folder / "run" / "submission.jsonl"), [(0.0, 16.0), (15.5, 15.6)], strict=True
    ):
        first, last, _ = max(row["pred_relevant_windows"], key=lambda window: window[2])
        shared = max(0.0, min(last, end) - max(first, start))
        ious.append(shared / (last - first + end - start - shared))
    assert metrics["localization"] == {
        **{f"R1@{border}": 100 * np.mean([iou >= border for iou in ious]) for border in (0.3, 0.5, 0.7)},
        "mIoU": pytest.approx(100 * np.mean(ious)),
        "queries": 2,
    }
    assert "## Best window" in bench.report
    assert metrics["highlights"] is None


@pytest.mark.parametrize("bench", ["tvsum"], indirect=True)
def test_tvsum_is_measured_by_its_highest_clips(bench: Bench, film: Path) -> None:
    rng = np.random.default_rng(0)
    labels = {"sTEELN-vY30": rng.integers(1, 6, (8, 20)).tolist(), "J0nA4VgnoCo": rng.integers(1, 6, (8, 20)).tolist()}
    rows = [
        {"vid": video, "qid": video, "query": "A train", "duration": 8, "label": label, "domain": domain}
        for (video, label), domain in zip(labels.items(), ("VU", "VT"), strict=True)
    ]
    bench.write("tvsum_val.jsonl", write_lines(rows))
    for video in labels:
        bench.add_video(f"{video}.mp4", film)
    metrics = bench.evaluate("val")
    curves = {row["vid"]: row["pred_saliency_scores"] for row in read_lines(bench.folder / "run" / "submission.jsonl")}
    expected = {
        domain: 100
        * np.mean([slow_precision(curves[video], list(ratings)) for ratings in zip(*labels[video], strict=True)])
        for video, domain in (("sTEELN-vY30", "VU"), ("J0nA4VgnoCo", "VT"))
    }
    assert metrics["highlights"] == {
        "mAP@5": pytest.approx(np.mean(list(expected.values()))),
        **{domain: pytest.approx(value) for domain, value in expected.items()},
        "videos": 2,
    }
    assert bench.report.startswith(f"# tvsum val: mAP@5 {metrics['highlights']['mAP@5']:.1f} %")
