"""The launcher of VLMEvalKit inside its environment, on a local dataset; run_scripts/harness_check.sh makes that."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.architecture.source import ROOT
from tests.harness.examples import NUM_QUESTIONS, decoded, equal, question_rows, write_chosen

pytestmark = pytest.mark.harness
DOC = (ROOT / "docs" / "harnesses.md").read_text(encoding="utf-8")
[COMMAND] = re.findall(r"^\$ python integrations/vlmevalkit/(.+)$", DOC, re.MULTILINE)


def launched(folder: Path, *, frames: str = "--frames frames.jsonl") -> subprocess.CompletedProcess[str]:
    """Run the documented command on the local dataset, with the recording model."""
    command = re.sub(r"--frames \S+", frames, COMMAND)
    command = re.sub(r"--data \S+ --model \S+", "--data clips --model recording", command)
    program, *arguments = shlex.split(command)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [
            *(sys.executable, ROOT / "integrations" / "vlmevalkit" / program),
            *(*arguments, "--import", "tests.harness.vlmevalkit_parts"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "LMUData": str(folder), "HF_HUB_OFFLINE": "1"},
    )


def test_models_are_shown_the_frames_of_the_file(tmp_path: Path) -> None:
    write_chosen(tmp_path / "frames.jsonl")
    done = launched(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    messages = [json.loads(line) for line in (tmp_path / "shown.jsonl").read_text().splitlines()]
    assert len(messages) == NUM_QUESTIONS
    for doc_id, (row, message) in enumerate(zip(question_rows(), messages, strict=True)):
        *images, text = message
        shown = [np.asarray(Image.open(tmp_path / image["value"])) for image in images]
        assert equal(shown, decoded(doc_id))
        assert text["value"] == row["question"]
    right = sum(row["answer"] == "A" for row in question_rows()) / NUM_QUESTIONS
    assert "9 of 9 questions were shown 18 frames in this run\npredictions: outputs/recording_clips_" in done.stdout
    assert done.stdout.endswith(f".xlsx\n{right}\n")
    again = launched(tmp_path)
    assert "0 of 9 questions were shown 0 frames in this run" in again.stdout
    assert again.stdout.endswith(f".xlsx\n{right}\n")


def test_a_question_without_frames_ends_the_run_before_a_model_is_asked(tmp_path: Path) -> None:
    write_chosen(tmp_path / "frames.jsonl", without="test_0002_1")
    done = launched(tmp_path)
    assert done.returncode == 2
    assert "error: frames.jsonl has no frames for question 'test_0002_1' of 'clips'" in done.stderr
    assert not (tmp_path / "shown.jsonl").exists()


def test_a_selector_chooses_when_a_question_is_asked(tmp_path: Path) -> None:
    done = launched(tmp_path, frames="--selector motion --k 2 --num-frames 8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 questions were shown 18 frames" in done.stdout
