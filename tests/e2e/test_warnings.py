"""No library warns a user of something that only we can change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Sevila
from tests.integration.evaluation.benchmarks import recipe as evaluation_recipe
from tests.integration.evaluation.questions import settings, write_questions
from tests.integration.training.tiny_run import options, recipe, write_tiny_data, write_tiny_model


@pytest.fixture
def warned(sevila: Sevila, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs `sevila` with every kind of warning switched on and returns those that were printed."""
    monkeypatch.setenv("PYTHONWARNINGS", "default")

    def run(*arguments: str | Path) -> list[str]:
        done = sevila(*arguments)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stderr.splitlines() if "Warning" in line]

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("answer", "{clip}", "What is shown?", "--option", "a cat", "--option", "a dog", "--no-cache"),
        ("answer", "{clip}", "What is shown?", "--no-cache", "--dtype", "bf16", "--selector", "coarse_to_fine"),
        ("find", "{clip}", "a red square", "--no-cache"),
    ],
    ids=["options", "open answer", "moment"],
)
def test_no_library_warns_while_a_question_is_answered(
    warned: Callable[..., list[str]], clip: Path, arguments: tuple[str, ...]
) -> None:
    assert warned(*(argument.format(clip=clip) for argument in arguments)) == []


def test_no_library_warns_while_a_model_is_trained_and_evaluated(
    warned: Callable[..., list[str]], tmp_path: Path
) -> None:
    data, model = write_tiny_data(tmp_path / "data"), write_tiny_model(tmp_path / "model")
    changed = options("finetune", data=data, model=model, output=tmp_path / "run", max_iters=1)
    assert warned("train", "--cfg-path", recipe("finetune"), "--options", *changed) == []
    questions = tmp_path / "questions"
    questions.mkdir()
    changed = settings(write_questions(questions), model=model, output=tmp_path / "evaluation")
    assert warned("evaluate", "--cfg-path", evaluation_recipe("nextqa", "inference"), "--options", *changed) == []
