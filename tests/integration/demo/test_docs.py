"""What docs/demo.md tells programs to do, as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gradio_client import Client

from lavis.demo.links import read_link
from lavis.demo.serve import Served
from lavis.demo.videos import read_examples
from tests.architecture.source import ROOT
from tests.integration.training.tiny_run import write_tiny_model

DOC = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860/"


def told(language: str, word: str) -> str:
    """Return the one piece of code with a word in it, about a page at a free port."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if word in block)
    return found


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(read_examples()[0].clip, tmp_path / "clip.mp4"))


def test_python(served: Served, clip: Path) -> None:
    code = told("python", "gradio_client")
    assert ADDRESS.rstrip("/") in code
    names: dict[str, object] = {}
    exec(code.replace(ADDRESS.rstrip("/"), served.url.rstrip("/")), names)
    record = names["record"]
    assert isinstance(record, dict)
    assert record["answer"] in ("field", "sky", "beach")
    assert record["video"]["name"] == clip.name


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(served: Served, clip: Path) -> None:
    code = told("bash", "curl")
    assert ADDRESS in code
    done = subprocess.run(
        ["bash", "-e", "-c", code.replace(ADDRESS, served.url)], capture_output=True, text=True, cwd=clip.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("event: complete\n")
    (record,) = json.loads(done.stdout.splitlines()[1].removeprefix("data: "))
    assert record["video"]["name"] == clip.name
    assert len(record["option_scores"]) == 3


def test_the_link_names_a_shipped_clip() -> None:
    (link,) = re.findall(r"`/(\?clip=.*)`", DOC)
    name, asked = read_link(link)
    assert name in [example.clip.name for example in read_examples()]
    assert asked.options == ("sky", "beach")


def test_two_models(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "my_model")
    _, *words = shlex.split(told("bash", "--model my_model"))
    command = [sys.executable, "-m", "lavis", *words, "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as page:
        try:
            assert page.stdout is not None
            (url,) = re.findall(r"http://\S+", page.stdout.readline())
            client = Client(url, verbose=False)
            asked = {"video": {"clip": "test_0001.mp4"}, "question": "Where?", "options": ["sky", "beach"]}
            answers = [client.predict(**asked, model=model, api_name="/answer") for model in ("my_model", "")]
        finally:
            page.terminate()
    assert [answer["model"] for answer in answers] == ["my_model", "sevila_tiny"]
    assert answers[0]["option_scores"] != answers[1]["option_scores"]
