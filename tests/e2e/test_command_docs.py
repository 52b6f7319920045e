"""The commands of docs/command.md, as they stand there."""

import io
import re
import shlex
from pathlib import Path

import pytest

from lavis.cli.main import main
from tests.e2e.conftest import ROOT
from tests.unit.export.test_clips import with_tones
from tests.videos import write_video

DOC = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", DOC, re.MULTILINE)
(QUESTIONS,) = re.findall(r"^```csv\n(video,.*?)^```$", DOC, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_tones(write_video(tmp_path / "silent.mp4", num_frames=100), name="clip.mp4")
    (tmp_path / "questions.csv").write_text(QUESTIONS)
    (tmp_path / "queries.txt").write_text("a red circle\na blue star\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(QUESTIONS.encode())))
    _, *words = shlex.split(command.removeprefix("cat questions.csv | "))
    assert main([*words, "--device", "cpu", "--num-frames", "8", "--no-cache"]) == 0
    assert capsys.readouterr().err == (
        f"note: {'standard input' if '|' in command else 'questions.csv'}: 2 questions about clip.mp4, "
        "1 about other videos left out\n"
        if "--questions" in command
        else ""
    )
    made = {
        "--cut": "clips/moment_1_*.mp4",
        "--edl": "cuts.edl",
        "--csv": "moments.csv",
        "--save": "found/*/moments.json",
    }
    assert [name for option, name in made.items() if option in words and not list(tmp_path.glob(name))] == []


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 7
