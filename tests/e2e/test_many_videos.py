"""`sevila answer` about many videos."""

import json
from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.models.mixed import load_chain
from tests.e2e.conftest import Sevila
from tests.videos import write_video

FEW = ("--num-frames", "4", "--num-keyframes", "2", "--device", "cpu", "--no-cache")
ASKED = ("What is shown?", "-o", "a box", "-o", "a ball")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and one that is none, in a folder of videos."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", num_frames=12)
    (folder / "b.mp4").write_bytes(b"no video at all")
    write_video(folder / "c.mp4", num_frames=20)
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was loaded, once for each time."""
    loaded: list[object] = []

    def load(*args: object, **options: object) -> object:
        loaded.append(load_chain(*args, **options))  # type: ignore[arg-type]
        return loaded[-1]

    monkeypatch.setattr("lavis.models.mixed.load_chain", load)
    return loaded


def test_every_video_is_asked_and_a_bad_one_is_told_at_the_end(
    folder: Path, loads: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    videos = [str(folder / name) for name in ("a.mp4", "b.mp4", "missing.mp4", "c.mp4")]
    assert main(["answer", *videos, *ASKED, *FEW]) == EXIT_USER_ERROR
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in out.splitlines() if "frames at" in line] == [videos[0], videos[3]]
    assert out.count("answer: ") == 2
    bad, missing, last = err.splitlines()
    assert bad.startswith(f"note: {videos[1]}: ")
    assert missing == f"note: {videos[2]}: no such file"
    assert last == "note: 2 of 4 videos could not be asked"
    assert len(loads) == 1


def test_json_of_a_folder_is_one_list_with_errors_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["answer", str(folder), *ASKED, *FEW, "--json", "--save", str(tmp_path / "found")]) == EXIT_USER_ERROR
    records = json.loads(capsys.readouterr().out)
    assert [record["video"]["path"] for record in records] == [str(folder / f"{name}.mp4") for name in "abc"]
    assert ["error" in record for record in records] == [False, True, False]
    assert records[1].keys() == {"video", "error"}
    assert {record["question"] for record in (records[0], records[2])} == {"What is shown?"}
    saved = sorted(file.relative_to(tmp_path / "found").as_posix() for file in tmp_path.rglob("answer.json"))
    assert saved == ["01_a/answer.json", "03_c/answer.json"]
    assert json.loads((tmp_path / "found" / "03_c" / "answer.json").read_text())["answer"] == records[2]["answer"]


def test_one_video_gives_what_it_gives_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for videos in (["a.mp4"], ["a.mp4", "c.mp4"]):
        assert main(["answer", *(str(folder / name) for name in videos), *ASKED, *FEW, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    alone, (among, _) = found
    assert [among[key] for key in ("answer", "keyframes", "video")] == [
        alone[key] for key in ("answer", "keyframes", "video")
    ]


def test_questions_of_a_file_are_asked_of_their_videos(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"video": "a.mp4", "question": "One?"}, {"video": "c.mp4", "question": "Two?"}, {"question": "All?"}]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    videos = [str(folder / "a.mp4"), str(folder / "c.mp4")]
    assert main(["answer", *videos, "--questions", str(tmp_path / "questions.json"), *FEW, "--json"]) == 0
    found = [(record["video"]["path"], record["question"]) for record in json.loads(capsys.readouterr().out)]
    assert found == [(videos[0], "One?"), (videos[0], "All?"), (videos[1], "Two?"), (videos[1], "All?")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mp4", "c.mp4"], "no question; give it behind the videos"),
        (["a.mp4", "c.mp4", "Is", "it?"], "unexpected argument 'Is'; put the question in quotes"),
        (["what", "is", "this"], "unexpected argument 'is'; put the question in quotes"),
        (["a.mp4", "c.mp4", ""], "the question is empty"),
        (["a.mp4", "c.mp4", "Q?", "--questions", "-"], "--questions brings its own questions"),
        (["a.mp4", "c.mp4", "--questions", "-"], "give a file, not standard input"),
        (["a.mp4", "c.mp4", "Q?", "--selector", "best"], "unknown"),
    ],
)
def test_what_is_wrong_for_all_is_told_before_a_model_is_loaded(
    folder: Path, loads: list[object], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    placed = [str(folder / word) if word.endswith(".mp4") else word for word in words]
    assert main(["answer", *placed, *FEW]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err
    assert loads == []


def test_a_question_is_asked_as_it_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", str(folder / "a.mp4"), "//Where?/", *FEW, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "//Where?/"


def test_the_command_in_a_process_of_its_own_ends_with_2(sevila: Sevila, folder: Path) -> None:
    done = sevila("answer", folder / "a.mp4", folder / "b.mp4", *ASKED, *FEW, "--json")
    assert done.returncode == EXIT_USER_ERROR
    assert len(json.loads(done.stdout)) == 2
    assert done.stderr.splitlines()[-1] == "note: 1 of 2 videos could not be asked"
