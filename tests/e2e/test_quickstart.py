"""The quickstart, twice, and what it says of the embedded model."""

import json
from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.demo.videos import read_examples


def test_quickstart_answers_right_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = read_examples()[0].questions[0]
    for _ in range(2):
        assert main(["quickstart"]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert "saved in quickstart_output:" in shown.out
        # The world the model knows is named with every answer.
        assert "synthetic world" in " ".join(shown.out.split())
    record = json.loads(Path("quickstart_output/answer.json").read_text())
    assert (record["question"], record["options"]) == (example.text, list(example.options))
    assert record["answer_index"] == example.answer
    assert len(list(Path("quickstart_output").glob("keyframe_*.jpg"))) == 4


def test_quickstart_that_cannot_write_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["quickstart", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "file").read_bytes() == b""


def test_quickstart_without_the_clips_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lavis.demo.videos.checkpoints_dir", lambda: tmp_path)
    monkeypatch.setattr("lavis.cli.quickstart.checkpoints_dir", lambda: tmp_path)
    assert main(["quickstart"]) == 2
    message = f"error: the example clips are not in {tmp_path / 'clips'}; install the package again\n"
    assert capsys.readouterr() == ("", message)
