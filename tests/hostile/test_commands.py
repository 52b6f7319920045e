"""Malformed annotations, settings and questions through the real commands: exit code 2 and one line with the place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from tests.integration.training.tiny_run import options, recipe
from tests.videos import write_video

ROW: dict[str, Any] = {"video": "v0", "qid": "CW_0", "question": "What?", "a0": "red", "a1": "blue", "answer": 0}
BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt field": ({"question": None, "questoin": "What?"}, "'questoin': is not a field of the schema; did you "),
    "an answer that is no option": ({"answer": 2}, "'answer': 2 is not an option; give an index from 0 to 1"),
    "an answer that is no number": ({"answer": "red"}, "'answer': 'red' is not a whole number"),
    "no options": ({"num_option": 0}, "'num_option': 0 options; give 2 to 26"),
    "27 options": ({f"a{number}": str(number) for number in range(27)}, "'num_option': 27 options; give 2 to 26"),
    "an option that is no text": ({"a1": ["blue"]}, "'a1': ['blue'] is not text"),
    "a blank question": ({"question": " \u2003"}, "'question': is blank"),
    "half a character": ({"question": "\ud83d"}, "'question': '\\ud83d' holds half a surrogate pair"),
    "a time that is infinite": ({"start": 0, "end": "inf"}, "'end': 'inf' is not a finite number"),
    "a negative time": ({"start": -1, "end": 2}, "'start': -1.0 is not a time in seconds"),
    "an end before the start": ({"start": 3, "end": 2}, "'end': 2 s is before the start at 3 s"),
    "a window after the end": ({"windows": [[0, 9]], "duration": 5}, "'windows': 9 s is after the video's end at 5 s"),
    "a window that is no pair": ({"windows": [[1]]}, "'windows': [[1]] is not a list of [start, end] pairs"),
    "a window that is not a number": ({"windows": [["nan", 2]]}, "'windows': 'nan' is not a time in seconds"),
    "a path out of the folder": ({"video": "../../etc/passwd"}, "'video': '../../etc/passwd' leaves the video folder"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=20)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with code 2 and one short line, and returns the line."""

    def run(*arguments: str | Path) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: ")
        assert shown.count("\n") == 1
        assert len(shown) < 2000
        return shown

    return run


@pytest.mark.parametrize(("change", "problem"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_stops_training_by_file_row_and_field(
    change: dict[str, Any], problem: str, data: Path, model_folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "train.json"
    bad = {name: value for name, value in {**ROW, "qid": "CW_1", **change}.items() if value is not None}
    file.write_text(json.dumps([ROW, bad]))
    settings = options("finetune", data=data, model=model_folder, output=tmp_path / "run")
    settings.append(f"datasets.nextqa.build_info.annotations.train.storage={file}")
    line = refused("train", "--cfg-path", recipe("finetune"), "--options", *settings)
    assert line.startswith(f"error: {file}, row 2, field ")
    assert problem in line


DOUBLED = json.dumps([ROW, ROW])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (DOUBLED, "row 2, field 'qid': 'CW_0' is the id of an earlier row"),
        ("[" * 100_000, "is nested too deeply to be annotations"),
        ('[{"video": ', "is not valid JSON"),
        ("[]", "holds no usable row"),
        ("[5]", "row 1 is 5, not an object with named fields"),
        ("\ud800", "is not UTF-8 text"),
        ('{"qid": ' + "9" * 5000 + "}", "is not valid JSON: Exceeds the limit"),
    ],
    ids=["doubled ids", "nested", "cut", "empty", "numbers", "no text", "a huge number"],
)
@pytest.mark.parametrize("command", ["evaluate", "check"])
def test_a_bad_annotation_file_is_named(
    command: str, content: str, problem: str, data: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "val.json"
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    settings = [
        f"datasets.nextqa.build_info.annotations.val.storage={file}",
        f"datasets.nextqa.build_info.videos.storage={data}/nextqa/videos",
    ]
    if command == "check":
        line = refused("check", "nextqa", "--splits", "val", "--out", tmp_path / "out", "--options", *settings)
    else:
        settings += [f"run.output_dir={tmp_path / 'out'}", "model.model_type=tiny", "run.device=cpu"]
        path = recipe("finetune").parents[1] / "inference" / "nextqa.yaml"
        line = refused("evaluate", "--cfg-path", path, "--options", *settings)
    assert line.startswith(f"error: {file}")
    assert problem in line


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"video": "v0", "question": "What?", "options": ["x"]}, "1 option;"),
        ({"video": "v0", "question": "", "options": ["x", "y"]}, "question"),
        ({"video": "absent", "question": "What?", "options": ["x", "y"]}, "absent"),
        ({"video": "v0", "question": "What?", "options": "xy"}, "options"),
        ({"video": "v0", "question": "What?", "options": ["x", "y"], "answer": 7}, "answer"),
    ],
    ids=["one option", "no question", "no video", "options in one text", "no such answer"],
)
def test_a_bad_question_of_ones_own_is_not_prepared(
    row: dict[str, Any], problem: str, data: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "questions.json"
    file.write_text(json.dumps([row]))
    out, videos = tmp_path / "out", data / "nextqa" / "videos"
    line = refused("prepare", "custom", "--raw", tmp_path, "--videos", videos, "--out", out)
    assert str(file) in line
    assert problem in line
    assert not out.exists() or not list(out.rglob("*.json"))


STRANGE = {
    "right to left": ("מה הוא עושה?", ["הוא רץ", "\u202eהוא קופץ\u202c"]),
    "emoji": ("👩🏽‍🚀🏳️‍🌈 ⁉️", ["👍🏿", "👎"]),
    "control characters": ("What\x00\x1b[31m?\u2028", ["a\tb", "a\x7f"]),
    "100,000 characters": ("why " * 25_000, ["x" * 100_000, "y"]),
    "looks like an option": ("--help", ["-1", "{text}"]),
}


@pytest.mark.parametrize(("question", "choices"), STRANGE.values(), ids=STRANGE.keys())
def test_any_text_can_be_asked(
    question: str, choices: list[str], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps([{"question": question, "options": choices}]))
    assert main(["answer", str(clip), "--questions", str(questions), "--num-frames", "4", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["question"] == question
    assert answer["answer"] in choices


@pytest.mark.parametrize("question", [text for text, _ in STRANGE.values() if not text.startswith("-")])
def test_any_text_can_be_searched(question: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", str(clip), question, "--num-frames", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["query"] == question


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("run.batch_size=4", "unknown key 'batch_size'; did you mean 'batch_size_"),
        ("run.seed=many", "run: seed: int is needed, not 'many'"),
        ("run.seed=${run.seed}", "Recursive interpolation"),
        ("rum.seed=1", "unknown section 'rum'; did you mean 'run'?"),
        ("run=5", "run: a mapping is needed, not 5"),
        ("datasets.nextqaa.x=1", "nextqa"),
        ("run.seed", "is not of the form key=value"),
    ],
)
def test_a_bad_setting_is_named(command: str, option: str, named: str, refused: Callable[..., str]) -> None:
    name = "finetune" if command == "train" else "inference"
    path = recipe("finetune").parents[1] / name / "nextqa.yaml"
    assert named in refused(command, "--cfg-path", path, "--options", option)


LONG = "x" * 300
FINETUNE = str(recipe("finetune"))
ASKING = ("What?", "--option", "red", "--option", "blue")


@pytest.mark.parametrize(
    "arguments",
    [
        ("answer", LONG, *ASKING),
        ("answer", "CLIP", *ASKING, "--model", LONG),
        ("answer", "CLIP", *ASKING, "--save", LONG),
        ("answer", "CLIP", *ASKING, "--cache-dir", LONG),
        ("answer", "CLIP", "--questions", LONG),
        ("find", LONG, "a cat"),
        ("checkpoint", "inspect", LONG),
        ("checkpoint", "verify", LONG),
        ("checkpoint", "convert", LONG, "--out", "out"),
        ("checkpoint", "merge", LONG, LONG, "--out", "out"),
        ("train", "--cfg-path", LONG),
        ("train", "--cfg-path", FINETUNE, "--options", f"model.model_type={LONG}"),
        ("train", "--cfg-path", FINETUNE, "--options", "model.model_type=tiny", f"model.finetuned={LONG}"),
        ("evaluate", "--cfg-path", LONG),
        ("evaluate", "compare", LONG, LONG),
        ("evaluate", "fit-moments", LONG),
        ("evaluate", "moments", "--submission", LONG, "--gt", LONG),
        ("report", LONG),
        ("check", "nextqa", "--cfg", LONG),
        ("prepare", "nextqa", "--raw", LONG, "--out", "out"),
        ("cache", "info", "--cache-dir", LONG),
        ("verify", LONG),
        ("demo", "--model", LONG),
    ],
    ids=lambda arguments: " ".join(word for word in arguments[:6] if word != LONG)[:60],
)
def test_a_name_that_no_file_can_have_is_one_line(
    arguments: tuple[str, ...],
    clip: Path,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "x" * 70 in refused(*(str(clip) if word == "CLIP" else word for word in arguments))


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_output_folder_that_no_file_can_be_is_one_line(
    command: str,
    data: Path,
    model_folder: Path,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = options("finetune", data=data, model=model_folder, output=Path(LONG))
    assert "x" * 70 in refused(command, "--cfg-path", FINETUNE, "--options", *settings)


@pytest.mark.parametrize(
    "name", ["a\x1b[2J\x1b]0;title\x07.mp4", "a\x9b2J.mp4", "a\x7f\x08\x08b.mp4", "a\u202e4pm.mp4"]
)
def test_a_name_gives_no_orders_to_the_terminal(
    name: str, clip: Path, refused: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(sign.isprintable() for sign in refused("answer", tmp_path / name, *ASKING)[:-1])
    copy = tmp_path / name
    copy.write_bytes(clip.read_bytes())
    assert main(["answer", str(copy), *ASKING, "--model", "tiny", "--num-frames", "2"]) == 0
    shown = "".join(capsys.readouterr())
    assert ".mp4" in shown
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
