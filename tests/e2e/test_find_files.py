"""Several queries in one watching, and what `sevila find` writes for players and editors."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from lavis.cli.main import main
from lavis.common.files import checkpoints_dir
from lavis.models.sevila.model import SeViLA
from lavis.video import open_video
from tests.e2e.conftest import Sevila
from tests.unit.export.test_clips import heard, with_tones
from tests.videos import shown_numbers, write_video

ALL = ["--threshold", "-1e9", "--num-frames", "4", "--device", "cpu", "--no-cache"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 numbered frames in 4 s with a key frame every 12, and a tone for each second."""
    return with_tones(write_video(tmp_path_factory.mktemp("find") / "silent.mp4", num_frames=100))


def test_several_queries_are_found_in_one_watching(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    features = SeViLA.features
    monkeypatch.setattr(SeViLA, "features", lambda self, pixels: (seen.append(len(pixels)), features(self, pixels))[1])
    assert main(["find", str(video), "a red circle", *ALL, "a star", "--save", str(tmp_path / "found"), "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["query"] for record in records] == ["a red circle", "a star"]
    assert sum(seen) == 4
    assert sorted(folder.name for folder in (tmp_path / "found").iterdir()) == ["01_a_red_circle", "02_a_star"]


@pytest.mark.parametrize(
    "content",
    ["a red circle\n\n a star \n", '["a"]', '{"query": "a red circle"}\n{"query": "a star", "end": "0:02"}'],
    ids=["lines", "no rows", "jsonl"],
)
def test_queries_come_from_standard_input(
    content: str, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    code = main(["find", str(video), "--queries", "-", *ALL, "--json"])
    shown = capsys.readouterr()
    if content == '["a"]':
        assert (code, shown.err) == (2, "error: standard input, row 1 is 'a', not an object with named fields\n")
        return
    records = json.loads(shown.out)
    assert [record["query"] for record in records] == ["a red circle", "a star"]
    clip = {"start_s": 0.0, "end_s": 2.0} if "query" in content else None
    assert [record["clip"] for record in records] == [None, clip]


def test_moments_are_cut_out_with_their_sound_and_it_is_said_how(sevila: Sevila, video: Path, tmp_path: Path) -> None:
    part = ["--clip", "1.0", "2.0"]
    done = sevila("find", video, "squares", *ALL, *part, "--cut", "clips")
    assert (done.returncode, done.stderr) == (0, "")
    name = "moment_1_00m01.00s_00m01.96s.mp4"  # four frames, of which each stands for as much before as after
    assert f"cut into clips:\n  {name}: copied, from the key frame 0.04 s before\n" in done.stdout
    (clip,) = (tmp_path / "clips").iterdir()
    assert clip.name == name
    with open_video(clip) as opened:
        assert shown_numbers(opened.read(np.arange(25)).frames) == list(range(24, 49))
    assert heard(clip)[0] == [800]
    again = sevila("find", video, "squares", *ALL, *part, "--cut", "clips")
    assert (again.returncode, again.stdout) == (2, "")
    assert "clips already holds files; choose another folder, or pass --force" in again.stderr


def test_json_tells_how_clips_were_made(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--cut", str(tmp_path / "clips"), "--json"]
    assert main(["find", str(video), "squares", "--clip", "0:01.9-0:02.9", *ALL, *where]) == 0
    (clip,) = json.loads(capsys.readouterr().out)["clips"]
    assert (clip["file"], clip["copied"], clip["sound"]) == ("moment_1_00m01.90s_00m02.84s.mp4", True, "copied")
    # The key frame at 1.44 s is the nearest before.
    assert (clip["start_s"], clip["early_s"]) == (pytest.approx(1.44), pytest.approx(0.46))


def test_files_for_players_and_editors_are_written(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [word for kind in ("vtt", "srt", "csv", "edl") for word in (f"--{kind}", str(tmp_path / f"a.{kind}"))]
    asked = ["find", str(video), "squares", "a star", *ALL, "--num-frames", "5", *places]
    assert main(asked) == 0
    assert (
        f"written: {tmp_path / 'a.edl'} (timecode of 25 frames a second, the video has 25)" in capsys.readouterr().out
    )
    texts = {path.suffix: path.read_text() for path in tmp_path.iterdir()}
    assert texts[".vtt"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nsquares (#1")
    assert texts[".srt"].startswith("1\n00:00:00,000 --> 00:00:04,000\nsquares (#1")
    assert [line.split(",")[:4] for line in texts[".csv"].splitlines()[1:]] == [
        ["squares", "1", "0.000", "4.000"],
        ["a star", "1", "0.000", "4.000"],
    ]
    events = [line for line in texts[".edl"].splitlines() if line[:1] == "0"]
    assert events == [
        "001  AX       B     C        00:00:00:00 00:00:04:00 00:00:00:00 00:00:04:00",
        "002  AX       B     C        00:00:00:00 00:00:04:00 00:00:04:00 00:00:08:00",
    ]
    assert main(asked) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'a.vtt'} is there already; name another file, or pass --force to replace it\n"
    )
    assert main([*asked, "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no query; give QUERY, or several with --queries FILE"),
        (["a", "--edl", "none/a.edl"], "cannot write none/a.edl: there is no folder "),
        (
            ["a", "--edl", "a", "--srt", "a"],
            "two of --vtt, --srt, --csv and --edl name the same file",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    arguments: list[str], message: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find", str(video), *arguments]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith(f"error: {message}")


def test_words_without_quotes_are_said_to_be_queries(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", str(video), "a", "red", "circle", *ALL, "--json"]) == 0
    assert capsys.readouterr().err == "note: 3 queries of one word each; put a sentence in quotes\n"


def test_what_comes_from_the_cache_is_said(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["find", str(video), "squares", "--num-frames", "4", "--device", "cpu", "--cache-dir", str(tmp_path)]
    assert main(asked) == 0
    assert "remembered" not in capsys.readouterr().out
    assert main(asked) == 0
    assert "\nremembered: 4 of 4 frames from the cache\n" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames_remembered"] == 4


def test_scores_tell_their_frames(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["find", str(video), "squares"], ["answer", str(video), "What?", "-o", "a", "-o", "b"]):
        assert main([*command, "--num-frames", "4", "--device", "cpu", "--no-cache", "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)["frame_scores"]
        assert [frame["frame_idx"] for frame in scores] == [12, 37, 62, 87]
        assert [frame["time_s"] for frame in scores] == pytest.approx([0.48, 1.48, 2.48, 3.48])


def test_the_shipped_questions_are_asked_of_their_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = checkpoints_dir() / "clips"
    questions = clips / "questions.json"
    shipped = next(entry for entry in json.loads(questions.read_text()) if entry["video"] == "test_0001.mp4")
    options = ["--num-frames", "8", "--device", "cpu", "--no-cache", "--json"]
    asked = ["answer", str(clips / "test_0001.mp4"), "--questions", str(questions), *options]
    assert main(asked) == 0
    shown = capsys.readouterr()
    records = json.loads(shown.out)
    assert [record["question"] for record in records] == [one["question"] for one in shipped["questions"]]
    assert [record["options"] for record in records] == [one["options"] for one in shipped["questions"]]
    told = f"{len(shipped['questions'])} questions about test_0001.mp4, 6 about other videos left out"
    assert shown.err == f"note: {questions}: {told}\n"

    other = tmp_path / "other.mp4"
    other.symlink_to(clips / "test_0001.mp4")
    assert main(["answer", str(other), "--questions", str(questions)]) == 2
    listed = "asks about 3 videos, such as 'test_0000.mp4', 'test_0001.mp4'; none is 'other.mp4'"
    assert capsys.readouterr().err == f"error: {questions} {listed}\n"


def test_a_question_about_a_part_is_answered_from_that_part(
    video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "question,a0,a1,start,end\nWhat?,a,b,0:01,0:02\nWhich?,a,b,,\nWhere?,a,b,1,2\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table.encode())))
    asked = [
        "answer",
        str(video),
        "--questions",
        "-",
        "--num-keyframes",
        "2",
        "--device",
        "cpu",
        "--no-cache",
        "--json",
    ]
    assert main(asked) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["question"] for record in records] == ["What?", "Which?", "Where?"]
    assert [record["clip"] for record in records] == [
        {"start_s": 1.0, "end_s": 2.0},
        None,
        {"start_s": 1.0, "end_s": 2.0},
    ]
    assert all(25 <= frame["frame_idx"] < 50 for frame in records[0]["keyframes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["What is it?", "VIDEO"],
            "VIDEO is 'What is it?', which is no file, but {video!r} is one; give the video first",
        ),
        (
            ["VIDEO", "What", "is", "it?"],
            "unexpected argument 'What'; put the question in quotes, and each option after an -o of its own; "
            "see: sevila answer --help",
        ),
    ],
)
def test_swapped_and_unquoted_questions_are_hinted_at(
    words: list[str], message: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["answer", *(str(video) if word == "VIDEO" else word for word in words)]) == 2
    assert capsys.readouterr().err == f"error: {message.format(video=str(video))}\n"


def test_a_question_may_stand_behind_options(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-o", "a", "-o", "b", "--num-frames", "4", "--device", "cpu", "--no-cache", "--json"]
    assert main(["answer", str(video), *options, "What?"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "What?"
