"""The quickstart, twice."""

import json
from pathlib import Path

import av
import pytest

from lavis.cli.quickstart import OPTIONS, QUESTION, run


def test_quickstart_makes_a_clip_and_answers_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run([]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert f"$ sevila answer quickstart_output/clip.mp4 '{QUESTION}'" in shown.out
        assert "saved in quickstart_output/answer:" in shown.out
    with av.open("quickstart_output/clip.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames, stream.width, stream.height) == ("h264", 300, 320, 240)
    record = json.loads(Path("quickstart_output/answer/answer.json").read_text())
    assert (record["question"], record["options"]) == (QUESTION, list(OPTIONS))
    assert len(list(Path("quickstart_output/answer").glob("keyframe_*.jpg"))) == 4
    assert sorted(path.name for path in Path("quickstart_output").iterdir()) == ["answer", "clip.mp4"]


def test_quickstart_that_cannot_write_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot write {tmp_path / 'file' / 'clip.mp4'}: ")
