"""Every mistake a person can make gives exit code 2, one line that names it, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lavis.cli.main import main
from tests.e2e.conftest import Sevila
from tests.videos import cut, write_sound, write_video

OPTIONS = ["--option", "a cat", "--option", "a dog"]


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def truncated(folder: Path) -> Path:
    """An MP4 whose index, which stands at the end, is lost."""
    path = write_video(folder / "truncated.mp4")
    cut(path, keep=0.7)
    return path


def text(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("This is no video.\n" * 100)
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def sound(folder: Path) -> Path:
    return write_sound(folder / "sound.mp4")


def directory(folder: Path) -> Path:
    path = folder / "directory.mp4"
    path.mkdir()
    return path


def whole(folder: Path) -> Path:
    return write_video(folder / "whole.mp4")


BAD_VIDEOS = [missing, truncated, text, empty, sound, directory]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused, and returns the message."""

    def run(*arguments: str | Path) -> str:
        before = snapshot(tmp_path)
        assert main([str(argument) for argument in arguments]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("error: ")
        assert shown.err.count("\n") == 1
        assert snapshot(tmp_path) == before
        return shown.err

    return run


@pytest.mark.parametrize("command", [["answer", *OPTIONS], ["find"]], ids=["answer", "find"])
@pytest.mark.parametrize("make", BAD_VIDEOS, ids=lambda make: make.__name__)
def test_bad_video_is_named(
    tmp_path: Path, refused: Callable[..., str], make: Callable[[Path], Path], command: list[str]
) -> None:
    path = make(tmp_path)
    name, *options = command
    assert str(path) in refused(name, path, "What?", *options, "--save", tmp_path / "found")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["What?", "--option", "a cat"], "1 option given; give none, or 2 to 26"),
        (["What?", *(f"--option={number}" for number in range(27))], "27 options given; give none, or 2 to 26"),
        (["What?", *OPTIONS, "--option", "a cat"], "option C repeats 'a cat'"),
        (["What?", *OPTIONS, "--option", " "], "option C is empty"),
        (["", *OPTIONS], "the question is empty"),
        (["  ", *OPTIONS], "the question is empty"),
        (OPTIONS, "no question; give QUESTION"),
        (["What?", *OPTIONS, "--num-keyframes", "33"], "cannot choose 33 keyframes of 32 frames"),
        (["What?", *OPTIONS, "--num-frames", "8", "--num-keyframes", "9"], "cannot choose 9 keyframes of 8 frames"),
        (["What?", *OPTIONS, "--num-keyframes", "0"], "cannot choose 0 keyframes"),
        (["What?", *OPTIONS, "--num-keyframes", "-1"], "cannot choose -1 keyframes"),
        (["What?", *OPTIONS, "--num-frames", "0"], "cannot sample 0 frames"),
        (["What?", *OPTIONS, "--num-frames", "1.5"], "invalid int value: '1.5'"),
        (["What?", *OPTIONS, "--model", "tinny"], "'tinny'; did you mean 'tiny'?"),
        (["What?", *OPTIONS, "--selector", "localiser"], "'localiser'; did you mean 'localizer'?"),
        (["What?", *OPTIONS, "--selector", "windows"], "has no windows to choose frames from"),
        (["What?", *OPTIONS, "--frame-reader", "joined"], "'joined'; did you mean 'joint'?"),
        (["What?", *OPTIONS, "--prompt", "multi_choice"], "'multi_choice'; did you mean 'multiple_choice'?"),
        (["What?", *OPTIONS, "--reader", "pyva"], "'pyva'; did you mean 'pyav'?"),
        (["What?", *OPTIONS, "--dtype", "fp61"], "'fp61'; did you mean 'fp16'?"),
        (["What?", *OPTIONS, "--device", "gpu"], "unknown device 'gpu'"),
        (["What?", *OPTIONS, "--device", "meta"], "unknown device 'meta'"),
        (["What?", *OPTIONS, "--device", "cuda:99"], "cannot use the device 'cuda:99' on this machine"),
        (["What?", *OPTIONS, "--clip", "3", "1"], "the clip from 3 to 1 s ends before it starts"),
        (["What?", *OPTIONS, "--clip", "90", "95"], "the clip from 90 to 95 s lies outside the video"),
        (["What?", *OPTIONS, "--clip", "nan", "1"], "the clip from nan to 1 s has a time that is not a number"),
        (["What?", *OPTIONS, "--clip", "1"], "--clip: expected 2 arguments"),
        (
            ["What?", *OPTIONS, "--clip", "0:02-0:75"],
            "--clip: '0:75' is no time; give seconds, mm:ss or hh:mm:ss; see:",
        ),
        (["What?", "--questions", "questions.json"], "leave out QUESTION and --option"),
        (["--questions", "questions.json"], "cannot read questions.json"),
    ],
)
def test_bad_request_is_named(
    tmp_path: Path, refused: Callable[..., str], clip: Path, arguments: list[str], named: str
) -> None:
    assert named in refused("answer", clip, *arguments, "--save", tmp_path / "found")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([" "], "the question is empty"),
        (["A cat", "--threshold", "nan"], "threshold is nan"),
        (["A cat", "--max-gap-frames", "-1"], "max_gap_frames is -1"),
        (["A cat", "--min-length", "-2"], "min_length_s is -2.0"),
        (["A cat", "--max-moments", "0"], "max_moments is 0"),
        (["A cat", "--prompt", "moments"], "'moments'; did you mean 'moment'?"),
    ],
)
def test_bad_search_is_named(
    tmp_path: Path, refused: Callable[..., str], clip: Path, arguments: list[str], named: str
) -> None:
    assert named in refused("find", clip, *arguments, "--save", tmp_path / "found")


def test_malformed_questions_are_named_by_file_row_and_field(
    tmp_path: Path, refused: Callable[..., str], clip: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "What?"}\n{"question": "Why?", "options": "ab"}\n')
    message = refused("answer", clip, "--questions", questions, "--save", tmp_path / "found")
    problem = '\'ab\' is not a list of texts such as ["red", "blue"]'
    assert message == f"error: {questions}, line 2, field 'options': {problem}\n"


def test_folder_without_a_model_is_named(tmp_path: Path, refused: Callable[..., str], clip: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    message = refused("answer", clip, "What?", *OPTIONS, "--model", folder, "--save", tmp_path / "found")
    assert f"{folder} is not a saved model" in message


@pytest.mark.parametrize("command", [["answer", *OPTIONS], ["find"]], ids=["answer", "find"])
def test_place_that_cannot_be_written_to_is_named(
    tmp_path: Path, refused: Callable[..., str], clip: Path, command: list[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    name, *options = command
    for target in (tmp_path / "file", tmp_path / "file" / "found"):
        message = refused(name, clip, "What?", *options, "--save", target)
        assert message == f"error: cannot write to {target}: {tmp_path / 'file'} is not a folder\n"


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "forced"])
def test_folder_with_other_files_is_kept(
    tmp_path: Path, refused: Callable[..., str], clip: Path, force: list[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    message = refused("answer", clip, "What?", *OPTIONS, "--save", tmp_path / "thesis", *force)
    assert str(tmp_path / "thesis") in message


def test_folder_of_frames_needs_its_rate(tmp_path: Path, refused: Callable[..., str]) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.jpg").write_bytes(b"")
    assert str(frames) in refused("answer", frames, "What?", *OPTIONS)


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [(truncated, [], "truncated.mp4"), (whole, ["--num-keyframes", "99"], "cannot choose 99 keyframes")],
    ids=["before torch is imported", "after the model has watched"],
)
def test_process_shows_one_line_without_traceback_or_noise_of_libraries(
    sevila: Sevila, tmp_path: Path, make: Callable[[Path], Path], arguments: list[str], named: str
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    done = sevila("answer", make(videos), "What?", *OPTIONS, *arguments, "--save", "found")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
