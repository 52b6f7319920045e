from dataclasses import replace

import pytest
import torch

from lavis.models.sevila.build import build_untrained
from lavis.models.sevila.identity import watching_key
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG


@pytest.fixture(scope="module")
def key() -> str:
    return watching_key(build_untrained(CONFIG))


def test_the_same_weights_have_the_same_key(own_model: SeViLA, key: str) -> None:
    assert watching_key(own_model) == key


@pytest.mark.parametrize("part", ["vision", "localizer", "answerer"])
def test_any_changed_weight_changes_the_key(own_model: SeViLA, key: str, part: str) -> None:
    parameter = list(own_model.get_submodule(part).parameters())[-1]
    with torch.no_grad():
        parameter.view(-1)[-1] += 1e-3
    assert watching_key(own_model) != key


def test_weights_that_have_changed_places_have_another_key(own_model: SeViLA, key: str) -> None:
    weight = own_model.localizer.proj.weight
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    assert watching_key(own_model) != key


def test_the_precision_is_part_of_the_key(own_model: SeViLA, key: str) -> None:
    assert watching_key(own_model.to(torch.bfloat16)) != key


def test_the_preprocessing_is_part_of_the_key(key: str) -> None:
    assert watching_key(build_untrained(replace(CONFIG, image_mean=(0.5, 0.5, 0.5)))) != key


def test_the_language_model_makes_no_tokens_and_is_not_part_of_the_key(own_model: SeViLA, key: str) -> None:
    with torch.no_grad():
        next(own_model.language.parameters()).add_(1)
    assert watching_key(own_model) == key
