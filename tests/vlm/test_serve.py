"""The client of servers against a real one: `transformers serve` with a tiny random model, offline, on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.common.errors import ConfigError, NoAnswerError
from lavis.models.loading import load_model
from lavis.models.pipeline import WatchedVideo
from tests.videos import write_video
from tests.vlm.families import save_tiny

pytestmark = pytest.mark.vlm

WITHOUT_SCORES = "the server gives no log-probabilities: only the choice is known"


def let_it_say_one_letter(folder: Path, letter: str) -> None:
    """Have the model of a folder answer with a letter, by how it generates and not by its weights."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    (wanted,) = tokenizer.encode(letter, add_special_tokens=False)
    end = tokenizer.eos_token_id
    vocabulary = range(len(tokenizer))
    generation = {
        "suppress_tokens": [token for token in vocabulary if token not in (wanted, end)],
        "begin_suppress_tokens": [token for token in vocabulary if token != wanted],
        "sequence_bias": [[[end], 1000.0]],
        "eos_token_id": end,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = save_tiny("smolvlm", tmp_path_factory.mktemp("serve") / "tiny")
    let_it_say_one_letter(found, "B")
    return found


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Serve the folder, and others by name."""
    from transformers.utils.import_utils import is_accelerate_available, is_serve_available

    pytest.importorskip("openai", exc_type=ImportError)  # beside the lowest versions it has not all that it needs
    if not (is_serve_available() and is_accelerate_available()):
        pytest.skip("transformers serve is not complete; install it with: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = folder.parent / "serve.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.vlm.serving", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            cwd=Path(__file__).parents[2],
        )
        try:
            deadline = time.monotonic() + 180
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                        break
                except OSError:
                    assert server.poll() is None, log.read_text(errors="replace")[-3000:]
                    assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=50)


def watched(url: str, model: Path, clip: Path) -> WatchedVideo:
    found: WatchedVideo = load_model(model_type=f"openai:{url}#{model}").watch(clip, num_frames=4)
    return found


def test_a_letter_is_read_and_that_there_are_no_scores_is_said(url: str, folder: Path, clip: Path) -> None:
    answer = watched(url, folder, clip).ask("What is it?", ["a cat", "a dog", "a man"], selector="uniform")
    assert (answer.index, answer.text, len(answer.option_scores)) == (1, "a dog", 0)
    assert answer.caveats[1:] == (WITHOUT_SCORES,)


def test_there_is_no_localizer_where_log_probabilities_are_passed_over(url: str, folder: Path, clip: Path) -> None:
    with pytest.raises(ConfigError, match="gives no log-probabilities, by which frames are scored; choose"):
        watched(url, folder, clip).ask("What is it?", ["a cat", "a dog"])


def test_the_model_sees_the_pictures_and_what_it_says_is_not_taken_for_an_option(
    url: str, folder: Path, clip: Path
) -> None:
    other = save_tiny("smolvlm", folder.parent / "other")
    video = watched(url, other, clip)
    said = [
        video.ask("What is it?", selector={"policy": {"name": "random", "seed": seed}}, num_keyframes=2).text
        for seed in range(4)
    ]
    assert len(set(said)) > 1, said
    with pytest.raises(NoAnswerError, match="which is none of the options A to B"):
        video.ask("What is it?", ["a cat", "a dog"], selector="uniform")


def test_a_model_that_is_not_there_is_named(url: str, folder: Path, clip: Path) -> None:
    with pytest.raises((ConfigError, RuntimeError), match=url):
        watched(f"{url}", folder.parent / "nowhere", clip).ask("What?", selector="uniform")


def test_the_command_answers(url: str, folder: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"openai:{url}#{folder}"
    command = ["answer", str(clip), "What is it?", "-o", "a cat", "-o", "a dog", "--selector", "uniform", "--json"]
    assert main([*command, "--model", model]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["answer"], record["answer_index"], record["option_scores"]) == ("a dog", 1, [])
    assert record["model"] == f"{folder} on {url}"
    assert WITHOUT_SCORES in record["caveats"]
