"""The commands with image-text models that lie in a folder, as somebody who has downloaded one types them."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lavis
from lavis.cli.main import main
from lavis.common.files import configs_dir
from tests.e2e.conftest import Sevila
from tests.vlm.families import FAMILIES, WHOLE

pytestmark = pytest.mark.vlm

OPTIONS = ("--option=a circle", "--option=a square")
CAVEAT = "chooses frames by being asked in words: no stage has trained it for that"
QUESTIONS = (
    "video,question,a0,a1,a2,answer\nclip,What is it?,a dog,a boat,,a dog\nclip,Where is it?,here,there,away,B\n"
)


def test_a_question_is_answered_from_a_folder(
    sevila: Sevila,
    folder_of: Callable[[str], Path],
    clip: Path,
) -> None:
    folder = folder_of("smolvlm")
    done = sevila("answer", clip, "What is it?", *OPTIONS, "--model", folder, "--json", "--num-frames", "6")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert record["answer"] == record["options"][record["answer_index"]]
    assert len(record["frame_scores"]) == 6
    assert len(record["keyframes"]) == 4
    assert any(CAVEAT in caveat for caveat in record["caveats"])


@pytest.mark.parametrize("family", [*FAMILIES, *WHOLE])
def test_every_family_answers_as_in_python(
    family: str, folder_of: Callable[[str], Path], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(family)
    for options in (OPTIONS, ()):
        command = ["answer", str(clip), "What is it?", *options, "--model", str(folder), "--num-frames=5"]
        assert main([*command, "--num-keyframes=2", "--json"]) == 0
    *_, first, second = (json.loads(text) for text in capsys.readouterr().out.replace("}\n{", "}\0{").split("\0"))
    video = lavis.load_model("hf", folder, device="cpu").watch(clip, num_frames=5)
    wanted = video.ask("What is it?", ["a circle", "a square"], num_keyframes=2)
    assert first["answer_index"] == wanted.index
    assert [option["score"] for option in first["option_scores"]] == pytest.approx(wanted.option_scores.tolist())
    assert [frame["score"] for frame in first["frame_scores"]] == pytest.approx(wanted.keyframes.all_scores.tolist())
    assert second["answer"] == video.ask("What is it?", num_keyframes=2).text


def test_moments_are_found(
    folder_of: Callable[[str], Path], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["find", str(clip), "Squares appear", "--threshold=-1e9", "--json", "--save", str(tmp_path / "found")]
    assert main([*command, "--model", str(folder_of("qwen3_vl")), "--num-frames=5"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["moments"]) == 1
    assert len(record["frame_scores"]) == 5
    assert (tmp_path / "found" / "moments.vtt").is_file()


def test_frames_are_remembered_between_commands(
    folder_of: Callable[[str], Path],
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEVILA_CACHE", str(tmp_path))
    records = []
    for _ in range(2):
        command = ["answer", str(clip), "What is it?", *OPTIONS, "--model", str(folder_of("qwen2_5_vl")), "--json"]
        assert main([*command, "--num-frames=5"]) == 0
        records.append(json.loads(capsys.readouterr().out))
        for key in ("timings_s", "frames_remembered"):
            records[-1].pop(key, None)
    assert len([path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000]) == 1
    costs = [record.pop("cost") for record in records]
    assert [cost["frames_decoded"] for cost in costs] == [5, 0]
    assert records[0] == records[1]


def test_coarse_to_fine_asks_about_fewer_frames(
    folder_of: Callable[[str], Path], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["answer", str(clip), "What is it?", *OPTIONS, "--model", str(folder_of("internvl")), "--json"]
    assert main([*command, "--num-frames=20", "--num-keyframes=2", "--selector=coarse_to_fine"]) == 0
    record = json.loads(capsys.readouterr().out)
    scored = [frame["score"] for frame in record["frame_scores"] if frame["score"] is not None]
    assert 2 < len(scored) < 20
    assert len(record["keyframes"]) == 2


def test_own_questions_are_evaluated(
    folder_of: Callable[[str], Path], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "val.csv").write_text(QUESTIONS)
    prepare = ["prepare", "custom", "--raw", str(raw), "--videos", str(clip.parent), "--out", str(tmp_path / "data")]
    assert main(prepare) == 0
    places = shlex.split(capsys.readouterr().out.splitlines()[-1].partition("--options ")[2])
    folder = folder_of("gemma3")
    recipe = configs_dir() / "sevila" / "inference" / "custom.yaml"
    settings = [
        f"model.model_type={folder}",
        "run.device=cpu",
        "run.num_workers=0",
        f"run.output_dir={tmp_path / 'run'}",
    ]
    frames = ["datasets.custom.vis_processor.eval.n_frms=5", "model.frame_num=2"]
    assert main(["evaluate", "--cfg-path", str(recipe), "--options", *settings, *frames, *places]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["questions"], metrics["unreadable"], metrics["dataset"]) == (2, 0, "custom")
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    video = lavis.load_model("hf", folder, device="cpu").watch(clip, num_frames=5)
    wanted = video.ask("What is it?", ["a dog", "a boat"], num_keyframes=2)
    (row,) = (row for row in rows if len(row["option_scores"]) == 2)
    np.testing.assert_allclose(row["option_scores"], wanted.option_scores, rtol=1e-4)
    np.testing.assert_allclose(row["frame_scores"], wanted.keyframes.all_scores, rtol=1e-4)


@pytest.mark.parametrize("options", [["--quantize", "int8"], ["--dtype", "bf16"]])
def test_smaller_numbers_answer_too(
    folder_of: Callable[[str], Path], clip: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    pytest.importorskip("torchao")
    command = ["answer", str(clip), "What is it?", *OPTIONS, "--model", str(folder_of("smolvlm")), "--json"]
    scores = []
    for more in ([], options):
        assert main([*command, "--num-frames=4", "--num-keyframes=2", *more]) == 0
        record = json.loads(capsys.readouterr().out)
        scores.append([frame["score"] for frame in record["frame_scores"]])
    exact, small = np.array(scores)
    assert np.isfinite(small).all()
    assert 0 < np.abs(exact - small).max() < 0.5


@pytest.mark.slow
def test_compiled_layers_score_as_they_are(
    folder_of: Callable[[str], Path], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["answer", str(clip), "What is it?", *OPTIONS, "--model", str(folder_of("smolvlm")), "--json"]
    scores = []
    for more in ([], ["--compile"]):
        assert main([*command, "--num-frames=4", "--num-keyframes=2", *more]) == 0
        record = json.loads(capsys.readouterr().out)
        scores.append([frame["score"] for frame in record["frame_scores"]])
    np.testing.assert_allclose(*scores, rtol=1e-4)
