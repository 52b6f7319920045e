"""The Localizer of another model as a scorer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.common.errors import CheckpointError, ConfigError
from lavis.common.types import Question
from lavis.models.chain import build_selector, check_selector
from lavis.models.sevila.model import SeViLA
from lavis.selection.scorers.other_model import OtherModel
from tests.integration.training.tiny_run import write_tiny_model
from tests.videos import write_video

QUESTIONS = [Question("What is shown", ("a cat", "a dog"), id="1"), Question("Who runs", ("he", "she"), id="2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", num_frames=16)


def test_it_scores_as_the_localizer_of_that_model(folder: Path, video: Path) -> None:
    answering, other = SeViLA.from_pretrained("tiny"), SeViLA.from_pretrained(folder)
    frames = answering.watch(video, num_frames=4).source
    selector = build_selector({"scorer": {"name": "model", "model": str(folder)}}, answering, prompt="multiple_choice")
    assert selector.scorer is not None
    found = selector.scorer.score(frames, QUESTIONS)
    own = other.watch(video, num_frames=4).source
    expected = other.as_scorer(prompt="multiple_choice").score(own, QUESTIONS)
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-4)
    np.testing.assert_allclose(found.margins, expected.margins, atol=2e-4)
    asked = np.array([[True, False, False, True]] * 2)
    some = selector.scorer.score(frames, QUESTIONS, where=asked)
    np.testing.assert_array_equal(np.isfinite(some.scores), asked)


def test_weights_are_laid_over_it_and_tell_evaluations_apart(folder: Path, tmp_path: Path) -> None:
    changed = SeViLA.from_pretrained(folder)
    with torch.no_grad():
        changed.parts()["localizer"].get_parameter(
            next(iter(dict(changed.parts()["localizer"].named_parameters())))
        ).add_(1)
    changed.save_pretrained(tmp_path / "refined", parts=["localizer"])
    plain = OtherModel(model=str(folder))
    refined = OtherModel(model=str(folder), finetuned=str(tmp_path / "refined"))
    for scorer in (plain, refined):
        scorer.load("cpu")
    assert plain.fingerprint()[0] != refined.fingerprint()[0]
    assert plain.fingerprint()[1:] == refined.fingerprint()[1:]
    assert OtherModel(model=str(folder), prompt="next_event").fingerprint() == [str(folder)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": " "}, "the scorer model has the model ' '; give a name or a folder"),
        ({"prompt": "multiple_choise"}, "did you mean 'multiple_choice'?"),
        ({"dtype": "fp61"}, "unknown dtype 'fp61'; did you mean 'fp16'?"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_selector({"scorer": {"name": "model", **settings}})


def test_weights_that_are_not_there_are_an_error(folder: Path) -> None:
    scorer = OtherModel(model=str(folder), finetuned="gone")
    with pytest.raises(CheckpointError, match="gone"):
        scorer.load("cpu")
