"""`sevila answer` on real video files."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lavis.cli.main import main
from lavis.common.config import load_yaml
from lavis.common.errors import EXIT_USER_ERROR
from lavis.common.files import configs_dir
from lavis.models.sevila.model import SeViLA
from tests.e2e.conftest import Sevila
from tests.videos import cut, shown_numbers, write_video

OPTIONS = ("--option", "a cat", "--option", "a dog", "--option", "squares")
CAVEAT = "the weights were trained on a synthetic world of coloured shapes only"


def number_shown(jpeg: Path) -> int:
    """The number of the frame that a keyframe picture shows."""
    return shown_numbers(np.asarray(Image.open(jpeg))[None])[0]


def scores(record: dict[str, Any]) -> list[float]:
    return [option["score"] for option in record["option_scores"]]


def test_answer_is_printed_with_options_keyframes_times_and_caveats(sevila: Sevila, clip: Path) -> None:
    done = sevila("answer", clip, "What is shown?", *OPTIONS)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{clip}: 4.00 s, 100 frames at 25 fps, 160x96; 32 frames watched by sevila_tiny"
    assert lines[1].startswith(f"! {CAVEAT}")
    assert lines[3] == "What is shown?"
    assert [line[3:].split("  ")[1] for line in lines[4:7]] == ["a cat", "a dog", "squares"]
    chosen = [line[3] for line in lines[4:7] if line.startswith(">")]
    assert lines[7].startswith(f"answer: {chosen[0]} ")
    assert lines[8].split() == ["keyframe", "frame", "time", "score"]
    assert [line.split()[0] for line in lines[9:13]] == ["1", "2", "3", "4"]
    assert lines[14].startswith("time: load ")


def test_json_is_all_there_is_on_standard_output_and_saved_files_agree_with_it(
    sevila: Sevila, clip: Path, tmp_path: Path
) -> None:
    done = sevila("answer", clip, "What is shown?", *OPTIONS, "--num-keyframes", "2", "--json", "--save", "found")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert record["options"] == ["a cat", "a dog", "squares"]
    assert record["answer"] == record["options"][record["answer_index"]]
    best = max(record["option_scores"], key=lambda option: option["score"])
    assert best["letter"] == "ABC"[record["answer_index"]]
    assert len(record["frame_scores"]) == 32
    assert record["video"] == {"path": str(clip), "duration_s": 4.0, "fps": 25.0, "num_frames": 100}
    assert list(record["timings_s"]) == ["load", "decode", "watch", "localize", "answer"]

    saved = tmp_path / "found"
    assert json.loads((saved / "answer.json").read_text())["keyframes"] == record["keyframes"]
    pictures = sorted(saved.glob("*.jpg"))
    assert [picture.name for picture in pictures] == [
        f"keyframe_{number}_00m{keyframe['time_s']:05.2f}s_frame{keyframe['frame_idx']}.jpg"
        for number, keyframe in enumerate(record["keyframes"], start=1)
    ]
    assert [Image.open(picture).size for picture in pictures] == [(160, 96)] * 2
    assert [number_shown(picture) for picture in pictures] == [frame["frame_idx"] for frame in record["keyframes"]]
    assert Image.open(saved / "scores.png").format == "PNG"
    assert len(list(saved.iterdir())) == 4


def test_keyframes_are_the_frames_with_the_highest_scores(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", str(clip), "What is shown?", *OPTIONS, "--num-keyframes", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    best = sorted(record["frame_scores"], key=lambda frame: -frame["score"])[:3]
    assert {frame["time_s"] for frame in record["keyframes"]} == {frame["time_s"] for frame in best}
    for frame in record["keyframes"]:
        assert frame["time_s"] == pytest.approx(frame["frame_idx"] / 25)


def test_several_questions_get_a_folder_each(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"question": "What is shown?", "options": ["a cat", "squares"], "id": "q1"},
        {"question": "Is it night?", "options": ["yes", "no", "unclear"]},
        {"question": "What happens?"},
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    saved = tmp_path / "answers"
    assert main(["answer", str(clip), "--questions", str(questions), "--json", "--save", str(saved)]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["question"] for record in records] == [row["question"] for row in rows]
    assert [len(record["option_scores"]) for record in records] == [2, 3, 0]
    assert [record["answer_index"] is None for record in records] == [False, False, True]
    assert sorted(folder.name for folder in saved.iterdir()) == ["01_q1", "02_is_it_night", "03_what_happens"]
    for folder, record in zip(sorted(saved.iterdir()), records, strict=True):
        assert json.loads((folder / "answer.json").read_text())["question"] == record["question"]
        assert len(list(folder.glob("keyframe_*.jpg"))) == 4


def test_one_question_of_a_file_gets_the_same_answer_as_alone(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "questions.json"
    row = {"question": "What is shown?", "options": list(OPTIONS[1::2])}
    questions.write_text(json.dumps([row, {"question": "Is it night?", "options": ["yes", "no"]}]), encoding="utf-8")
    assert main(["answer", str(clip), "--questions", str(questions), "--json"]) == 0
    together = json.loads(capsys.readouterr().out)[0]
    assert main(["answer", str(clip), "What is shown?", *OPTIONS, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert together["keyframes"] == alone["keyframes"]
    assert scores(together) == pytest.approx(scores(alone), abs=1e-4)


@pytest.mark.parametrize(
    ("choice", "num_keyframes", "num_scored", "num_choices"),
    [
        (["--selector", "uniform"], 4, 0, 0),
        (["--selector", "random", "--num-keyframes", "5"], 5, 0, 0),
        (["--frame-reader", "per_frame"], 4, 32, 4),
        (["--prompt", "next_event", "--num-frames", "8"], 4, 8, 0),
        (["--num-frames", "2"], 2, 2, 0),
        (["--dtype", "bf16", "--device", "cpu"], 4, 32, 0),
    ],
)
def test_choices_take_effect(
    clip: Path,
    capsys: pytest.CaptureFixture[str],
    choice: list[str],
    num_keyframes: int,
    num_scored: int,
    num_choices: int,
) -> None:
    assert main(["answer", str(clip), "What is shown?", *OPTIONS, *choice, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["keyframes"]) == num_keyframes
    assert len(record["frame_scores"]) == num_scored
    assert len(record["frame_choices"]) == num_choices


def test_only_the_clip_is_watched(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--clip", "1", "2", "--num-frames", "8", "--num-keyframes", "8", "--json"]
    assert main(["answer", str(clip), "What is shown?", *OPTIONS, *arguments]) == 0
    frames = [frame["frame_idx"] for frame in json.loads(capsys.readouterr().out)["keyframes"]]
    assert len(frames) == 8
    assert 25 <= frames[0] < frames[-1] < 50


def test_truncated_video_is_answered_from_its_readable_part_with_a_caveat(
    sevila: Sevila, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "cut.mp4", num_frames=100, muxer_options={"movflags": "faststart"})
    cut(path, keep=0.6)
    done = sevila("answer", path, "What is shown?", *OPTIONS, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    caveats = json.loads(done.stdout)["caveats"]
    assert len(caveats) == 2
    assert "the file is cut" in caveats[1]
    assert main(["answer", str(path), "What is shown?", *OPTIONS]) == 0
    printed = [line[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("! ")]
    assert printed == caveats


def test_prompt_that_is_cut_is_a_caveat(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", str(clip), "What " + "is shown " * 200, *OPTIONS, "--json"]) == 0
    caveats = json.loads(capsys.readouterr().out)["caveats"]
    assert caveats[1:] == ["the question is too long for the model and lost its end"]


def test_folder_of_frames_is_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(6):
        buffer = BytesIO()
        Image.new("RGB", (64, 48), (40 * number, 100, 100)).save(buffer, "JPEG")
        (frames / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
    saved = tmp_path / "found"
    assert main(["answer", str(frames), "What?", *OPTIONS, "--fps", "3", "--json", "--save", str(saved)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["video"] == {"path": str(frames), "duration_s": 2.0, "fps": 3.0, "num_frames": 6}
    assert len(list(saved.glob("keyframe_*.jpg"))) == 4


def test_saved_model_is_used_from_its_folder(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import lavis

    lavis.load_model("sevila", "tiny").save_pretrained(tmp_path / "model")
    found = []
    for model in ("tiny", str(tmp_path / "model")):
        assert main(["answer", str(clip), "What is shown?", *OPTIONS, "--model", model, "--json"]) == 0
        found.append(scores(json.loads(capsys.readouterr().out)))
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def write_config(folder: Path, **changes: Any) -> Path:
    """The configuration of the tiny model as a file of one's own."""
    content = {**load_yaml(configs_dir() / "models" / "sevila_tiny.yaml"), **changes}
    file = folder / "my.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return file


def test_a_configuration_file_is_a_model(sevila: Sevila, clip: Path, tmp_path: Path) -> None:
    import lavis

    weights = {"status": "untrained", "note": "drawn at random", "seed": 5}
    file = write_config(tmp_path, name="mine", weights=weights)
    done = sevila("answer", clip, "What is shown?", *OPTIONS, "--model", file, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert (record["model"], record["caveats"]) == ("mine", ["drawn at random"])
    video = lavis.load_model("sevila", str(file), device="cpu").watch(clip)
    answer = video.ask("What is shown?", ["a cat", "a dog", "squares"])
    assert scores(record) == pytest.approx(answer.option_scores.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"depth": 3}, "my.yaml: unknown key 'depth'"),
        ({"prompter": {"width": 10**9}}, "prompter: width is 1000000000; it must be from 1 to 65536"),
        ({"vision": {"name": "blip3"}}, "unknown vision tower 'blip3'"),
        (
            {"weights": {"status": "trained"}},
            "is the configuration of a trained model, without its weights; set weights",
        ),
    ],
)
def test_a_configuration_file_that_is_no_model_is_one_line(
    changes: dict[str, Any], says: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, **changes)
    assert main(["answer", str(clip), "What is shown?", *OPTIONS, "--model", str(file)]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(("name", "content"), [("my.yaml", "a: ["), ("my.yml", "5"), ("my.json", "[" * 100_000)])
def test_a_file_that_is_no_configuration_is_one_line(
    name: str, content: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    assert main(["answer", str(clip), "What?", *OPTIONS, "--model", str(tmp_path / name)]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line


def test_old_results_are_replaced_when_forced(clip: Path, tmp_path: Path) -> None:
    ask = ["answer", str(clip), "What is shown?", *OPTIONS, "--save", str(tmp_path / "found")]
    assert main([*ask, "--num-keyframes", "3"]) == 0
    assert main([*ask, "--num-keyframes", "1", "--force"]) == 0
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["found"]


def test_a_selector_is_given_as_parts_with_arguments(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["answer", str(clip), "What is it?", "-o", "a", "-o", "b", "--device", "cpu", "--no-cache", "--json"]
    policy = "{policy: {name: coarse_to_fine, gap: 2}, k: 2}"
    assert main([*asked, "--selector", policy]) == 0
    assert len(json.loads(capsys.readouterr().out)["keyframes"]) == 2
    assert main([*asked, "--selector", "{policy: {name: coarse_to_fine, gpa: 2}}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: frame policy coarse_to_fine: unknown argument 'gpa'; did you mean 'gap'?")
    assert main([*asked, "--selector", "{policy: ["]) == 2
    assert capsys.readouterr().err.startswith("error: frame selector {policy: [: ")


def test_frames_that_are_not_read_are_not_watched_where_no_score_is_needed(
    clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    features = SeViLA.features
    monkeypatch.setattr(SeViLA, "features", lambda self, pixels: (seen.append(len(pixels)), features(self, pixels))[1])
    asked = ["answer", str(clip), "What is it?", "-o", "a", "-o", "b", "--device", "cpu", "--num-keyframes", "3"]
    assert main([*asked, "--selector", "uniform", "--cache-dir", str(tmp_path)]) == 0
    assert seen == [3]
    assert "3 of 32 frames watched by" in capsys.readouterr().out
