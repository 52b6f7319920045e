import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lavis.cli.main import main
from tests.e2e.conftest import ROOT, Sevila
from tests.videos import write_video

NUM_VIDEOS = 40


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one's own questions about 40 videos, one of them broken."""
    folder = tmp_path_factory.mktemp("own")
    videos = folder / "videos"
    videos.mkdir()
    first = write_video(videos / "v0.mp4", num_frames=60, width=320, height=240)
    for number in range(1, NUM_VIDEOS):
        shutil.copy(first, videos / f"v{number}.mp4")
    rows = [
        {"video": f"v{number}", "question": "What?", "options": ["x", "y"], "answer": 0} for number in range(NUM_VIDEOS)
    ]
    (folder / "questions.json").write_text(json.dumps(rows))
    (videos / "v7.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def options(questions: Path, tmp_path: Path, sevila: Sevila) -> list[str]:
    assert sevila("prepare", "custom", "--raw", questions, "--out", tmp_path / "data").returncode == 0
    places = {"annotations.val": tmp_path / "data" / "custom" / "val.json", "videos": questions / "videos"}
    return ["--options", *(f"datasets.custom.build_info.{key}.storage={place}" for key, place in places.items())]


def test_lost_questions_are_listed_and_decide_the_exit_code(tmp_path: Path, sevila: Sevila, options: list[str]) -> None:
    ran = sevila("check", "custom", "--workers", "2", *options)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith(f"custom val: {NUM_VIDEOS} questions about {NUM_VIDEOS} videos, usable: 39 (97.5 %)\n")
    written = json.loads((tmp_path / "output" / "check" / "custom" / "check.json").read_text())
    (problem,) = written["problems"]
    assert (problem["kind"], problem["video"]) == ("unreadable", "v7")
    assert problem["lost"] == [{"split": "val", "question": "CUSTOM_val_7"}]
    assert len(written["duplicates"][0]["videos"]) == NUM_VIDEOS - 1
    assert "v7 (1): " in (tmp_path / "output" / "check" / "custom" / "check.txt").read_text()


def test_a_killed_check_goes_on_and_finds_the_same(tmp_path: Path, sevila: Sevila, options: list[str]) -> None:
    command = ["check", "custom", "--workers", "0", "--frames", "60", *options]
    whole = sevila(*command, "--out", tmp_path / "whole")
    journal = tmp_path / "killed" / "check.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "lavis", *command, "--out", str(tmp_path / "killed")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_text().count('"facts"')
    assert 3 <= before < NUM_VIDEOS
    again = sevila(*command, "--out", tmp_path / "killed")
    assert (again.returncode, whole.returncode) == (1, 1)
    assert json.loads((tmp_path / "killed" / "check.json").read_text()) == json.loads(
        (tmp_path / "whole" / "check.json").read_text()
    )
    paths = [json.loads(line)["path"] for line in journal.read_text().splitlines() if '"facts"' in line]
    assert len(paths) == len(set(paths)) == NUM_VIDEOS


def test_videos_that_can_all_be_used_exit_with_0(
    tmp_path: Path, sevila: Sevila, questions: Path, options: list[str]
) -> None:
    rows = json.loads((tmp_path / "data" / "custom" / "val.json").read_text())
    (tmp_path / "data" / "custom" / "val.json").write_text(json.dumps(rows[:3]))
    ran = sevila("check", "custom", *options)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nextq"], "unknown dataset builder 'nextq'; did you mean 'nextqa'?"),
        (["nextqa", "--cfg", "none.yaml"], "no configuration file at none.yaml"),
        (["nextqa", "--workers", "-1"], "--workers is -1; it must be 0 or more"),
        (["nextqa", "--options", "x"], "--options 'x' is not of the form key=value"),
        (["nextqa"], "make them with: sevila prepare nextqa --raw DIR"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
