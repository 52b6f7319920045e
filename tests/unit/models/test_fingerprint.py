from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lavis.models.fingerprint import weights_digest
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG


@pytest.fixture(scope="module")
def key() -> str:
    return SeViLA.untrained(CONFIG).watching_key()


def test_the_same_weights_have_the_same_key(own_model: SeViLA, key: str) -> None:
    assert own_model.watching_key() == key


@pytest.mark.parametrize("part", ["vision", "localizer", "answerer"])
def test_any_changed_weight_changes_the_key(own_model: SeViLA, key: str, part: str) -> None:
    parameter = list(own_model.get_submodule(part).parameters())[-1]
    with torch.no_grad():
        parameter.view(-1)[-1] += 1e-3
    assert own_model.watching_key() != key


def test_weights_that_have_changed_places_have_another_key(own_model: SeViLA, key: str) -> None:
    weight = own_model.localizer.proj.weight
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    assert own_model.watching_key() != key


def test_the_precision_is_part_of_the_key(own_model: SeViLA, key: str) -> None:
    assert own_model.to(torch.bfloat16).watching_key() != key


def test_the_preprocessing_is_part_of_the_key(key: str) -> None:
    assert SeViLA.untrained(replace(CONFIG, image_mean=(0.5, 0.5, 0.5))).watching_key() != key


def test_the_language_model_makes_no_tokens_and_is_not_part_of_the_key(own_model: SeViLA, key: str) -> None:
    with torch.no_grad():
        next(own_model.language.parameters()).add_(1)
    assert own_model.watching_key() == key


def _transposed(weight: torch.Tensor) -> torch.Tensor:
    return weight.T


def _rows_exchanged(weight: torch.Tensor) -> torch.Tensor:
    return weight.flip(0)


def _two_exchanged(weight: torch.Tensor) -> torch.Tensor:
    changed = weight.clone()
    changed[0, 0], changed[-1, -1] = weight[-1, -1], weight[0, 0]
    return changed


def _steps_that_add_up_to_nothing(weight: torch.Tensor) -> torch.Tensor:
    """Change three neighbours by 1, -2 and 1 of their last bits: no sum of bits times places notices."""
    changed = weight.clone()
    changed.view(torch.int32).view(-1)[:3] += torch.tensor([1, -2, 1], dtype=torch.int32)
    return changed


@pytest.mark.parametrize("change", [_transposed, _rows_exchanged, _two_exchanged, _steps_that_add_up_to_nothing])
@pytest.mark.parametrize("name", ["vision.", "localizer."])
def test_the_order_of_weights_is_part_of_their_digest(
    own_model: SeViLA, name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    named = own_model.named_parameters()
    found = [value for key, value in named if key.startswith(name) and value.ndim == 2 and len(value) == value.shape[1]]
    before = weights_digest(own_model)
    with torch.no_grad():
        found[0].copy_(change(found[0].clone()))
    assert weights_digest(own_model) != before


def test_numbers_beyond_those_that_are_mixed_in_one_go_count(
    own_model: SeViLA, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights_digest(own_model)
    monkeypatch.setattr("lavis.models.fingerprint._AT_ONCE", 7)
    assert weights_digest(own_model) == whole


def test_a_buffer_is_part_of_the_digest(own_model: SeViLA) -> None:
    before = weights_digest(own_model)
    own_model.language.register_buffer("scale", torch.ones(1))
    one = weights_digest(own_model)
    own_model.language.scale += 1
    assert len({before, one, weights_digest(own_model)}) == 3


def test_words_are_part_of_how_a_model_is_made(own_model: SeViLA) -> None:
    before = own_model.make_digest()
    assert SeViLA.untrained(CONFIG).make_digest() == before
    own_model.language.max_text_length -= 1
    shorter = own_model.make_digest()
    own_model.language.max_text_length += 1
    own_model.language.tokenizer.add_tokens(["kaleidoscope"])
    assert len({before, shorter, own_model.make_digest()}) == 3


def test_whole_numbers_are_left_as_they_are(own_model: SeViLA) -> None:
    places = torch.arange(5)
    own_model.language.register_buffer("places", places)
    before = weights_digest(own_model)
    assert weights_digest(own_model) == before
    assert places.tolist() == [0, 1, 2, 3, 4]
