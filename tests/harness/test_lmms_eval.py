"""The plugin of lmms-eval inside lmms-eval, on a local task; run_scripts/harness_check.sh makes the environment."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.architecture.source import ROOT
from tests.harness.examples import NUM_QUESTIONS, TASK, decoded, equal, question_rows, write_chosen
from tests.vlm.families import save_tiny

pytestmark = pytest.mark.harness
DOC = (ROOT / "docs" / "harnesses.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```\w+\n# (tasks/\S+)\n(.*?)```", DOC, re.DOTALL))
[COMMAND] = re.findall(r"^\$ python (-m sevila_lmms_eval .+)$", DOC, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the documentation's task, its rows and its frames; the current one."""
    (tmp_path / "tasks").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in question_rows()))
    write_chosen(tmp_path / "frames.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def evaluated(**arguments: Any) -> dict[str, Any]:
    """Results of lmms-eval, in this process, of the local task."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    tasks = TaskManager("ERROR", include_path="tasks", model_name="sevila_frames")
    results: dict[str, Any] = simple_evaluate(
        "sevila_frames", model_args=given, tasks=[TASK], task_manager=tasks, batch_size=4, device="cpu"
    )
    return results


def recorded(kind: str, monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Any]]:
    """Register a recording model, and return what it will have been shown."""
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    from tests.harness import recording

    path = f"tests.harness.recording.{'RecordingChat' if kind == 'chat' else 'Recording'}"
    MODEL_REGISTRY_V2.register_manifest(ModelManifest("recording", **{f"{kind}_class_path": path}), overwrite=True)
    monkeypatch.setattr(recording.Recording, "shown", {})
    return recording.Recording.shown


def launched(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *shlex.split(command)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["simple", "chat"])
def test_models_are_shown_the_frames_of_the_file(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = recorded(kind, monkeypatch)
    results = evaluated(answerer="recording", frames="frames.jsonl")
    assert sorted(shown) == list(range(NUM_QUESTIONS))
    assert all(equal(shown[doc_id], decoded(doc_id)) for doc_id in shown)
    right = sum(row["answer"] == "A" for row in question_rows()) / NUM_QUESTIONS
    assert results["results"][TASK]["exact_match,none"] == pytest.approx(right)


def test_a_selector_chooses_when_a_question_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = recorded("simple", monkeypatch)
    selector = "{scorer: motion, policy: {name: aks, depth: 2}, k: 3}"
    evaluated(answerer="recording", selector=selector, num_watched=12, options_field="options")
    assert [len(shown[doc_id]) for doc_id in range(NUM_QUESTIONS)] == [3] * NUM_QUESTIONS


def test_the_documented_command_writes_results(folder: Path) -> None:
    done = launched(COMMAND)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = (folder / "out").rglob("*_results.json")
    assert json.loads(file.read_text())["results"][TASK]["exact_match,none"] == pytest.approx(
        sum(row["answer"] == "A" for row in question_rows()) / NUM_QUESTIONS
    )
    assert f"sevila_frames: {NUM_QUESTIONS} of {NUM_QUESTIONS} questions were shown 18 frames" in done.stderr


def test_a_question_without_frames_ends_the_run(folder: Path) -> None:
    write_chosen(folder / "frames.jsonl", without="test_0001_2")
    done = launched(COMMAND)
    assert done.returncode == 2
    assert "sevila_frames: frames.jsonl has no frames for question 'test_0001_2' of 'clips'" in done.stderr
    assert not list((folder / "out").rglob("*_results.json"))


def test_lmms_eval_alone_ends_with_zero_where_it_failed_and_the_launcher_does_not(folder: Path) -> None:
    broken = COMMAND.replace("answerer=dummy", "answerer=no_such_model")
    assert launched(broken.replace("sevila_lmms_eval", "lmms_eval")).returncode == 0
    done = launched(broken)
    assert (done.returncode, "no results of clips in out" in done.stderr) == (1, True)


def test_qwen_2_5_vl_reads_the_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lmms-eval's own class, with a tiny model of random weights; what its processor takes is what was chosen."""
    from qwen_vl_utils.vision_process import fetch_image
    from transformers import Qwen2_5_VLProcessor

    taken: list[bytes] = []
    original = Qwen2_5_VLProcessor.__call__

    def call(self: Any, images: Any = None, videos: Any = None, **arguments: Any) -> Any:
        assert videos is None
        taken.extend(image.tobytes() for image in images)
        return original(self, images=images, **arguments)

    monkeypatch.setattr(Qwen2_5_VLProcessor, "__call__", call)
    save_tiny("qwen2_5_vl", folder / "qwen")
    results = evaluated(
        answerer="qwen2_5_vl", pretrained=folder / "qwen", device_map="cpu", frames="frames.jsonl", max_pixels=65536
    )
    chosen = [Image.fromarray(picture) for doc_id in range(NUM_QUESTIONS) for picture in decoded(doc_id)]
    # Before the processor, lmms-eval lets qwen_vl_utils bring pictures to a size that has whole patches.
    assert sorted(taken) == sorted(fetch_image({"image": picture}).tobytes() for picture in chosen)
    assert "exact_match,none" in results["results"][TASK]
