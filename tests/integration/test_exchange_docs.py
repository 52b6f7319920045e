"""The examples of docs/exchange.md, as they stand there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.selection.frames_file import ChosenFrames, read_frames
from tests.architecture.source import ROOT
from tests.videos import write_video

DOC = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ sevila (.+)$", DOC, re.MULTILINE)]
QUESTIONS = [
    {"video": f"v{n // 2}", "qid": f"q{n}", "question": f"What is it {n}", "answer": n % 2, "a0": "red", "a1": "green"}
    for n in range(4)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples read, and the current folder."""
    (recipe,) = re.findall(r"```yaml\n# quiz.yaml\n(.*?)```", DOC, re.DOTALL)
    (tmp_path / "quiz.yaml").write_text(recipe)
    (tmp_path / "quiz.json").write_text(json.dumps(QUESTIONS))
    (tmp_path / "videos").mkdir()
    for name in ("v0", "v1"):
        write_video(tmp_path / "videos" / f"{name}.mp4", num_frames=40)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_runs_and_every_file_holds_the_same_frames(folder: Path) -> None:
    for command in COMMANDS:
        assert main([*command, *(["--json"] if command[0] == "answer" else [])]) == 0, command
    direct, again = (Path("compared", "selectors", name, "k2", "predictions.jsonl") for name in ("localizer", "file"))
    read = [[json.loads(line) for line in place.read_text().splitlines()] for place in (direct, again)]
    for name in ("id", "choice", "option_scores", "keyframe_idx"):
        assert [row[name] for row in read[0]] == [row[name] for row in read[1]]
    chosen = read_frames("frames.jsonl").rows
    assert [(row.question_id, len(row)) for row in chosen] == [(row["qid"], 3) for row in QUESTIONS]
    for kind in ("aks", "focus", "annotation", "tspo", "bolt"):
        found = read_frames(f"from_{kind}.jsonl").rows
        assert [row.question_id for row in found] == [row["qid"] for row in QUESTIONS]
        assert [row.frame_idx for row in found] == [row.frame_idx for row in chosen]
        if kind in ("aks", "bolt"):  # with the videos
            assert [row.times_s for row in found] == [row.times_s for row in chosen]
    for row, whole in zip(read_frames("from_videoitg.jsonl").rows, chosen, strict=True):
        best = sorted(zip(whole.scores, whole.frame_idx or (), strict=True), reverse=True)[:2]
        assert list(row.frame_idx or ()) == sorted(index for _, index in best)


def test_python_reads_and_writes_it_as_the_page_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    Path("frames.jsonl").write_text(row)
    (code,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == "(0.32, 0.84) (8, 21) (0.8, None)\n"
    assert read_frames("mine.jsonl").rows == (ChosenFrames(task="quiz", question_id="q0", times_s=(0.2, 0.9)),)


def test_every_field_is_on_the_page() -> None:
    for name in ChosenFrames.__dataclass_fields__:
        assert re.search(rf"^\|.*`{name}`.*\|.*\|$", DOC, re.MULTILINE), name
