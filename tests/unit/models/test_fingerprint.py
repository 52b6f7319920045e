from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lavis.common.errors import VideoError
from lavis.models.fingerprint import video_digest, weights_digest
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


def test_the_identity_of_a_video_is_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    for name, content in (("a.mp4", b"one"), ("b.mp4", b"one"), ("c.mp4", b"two")):
        (tmp_path / name).write_bytes(content)
    first, second, other = (video_digest(tmp_path / f"{name}.mp4") for name in "abc")
    assert first == second == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert other != first


def test_the_identity_of_a_folder_of_frames_is_its_frames_places_and_bytes(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> str:
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
        return video_digest(tmp_path / name)

    first = folder("first", {"1.jpg": b"a", "2.jpg": b"b"})
    assert folder("same", {"2.jpg": b"b", "1.jpg": b"a"}) == first
    assert folder("swapped", {"1.jpg": b"b", "2.jpg": b"a"}) != first
    three, gap = (dict.fromkeys(names, b"a") for names in (("1.jpg", "2.jpg", "3.jpg"), ("1.jpg", "2.jpg", "4.jpg")))
    assert folder("three", three) != folder("a gap", gap)
    assert folder("renamed", {"0001.jpg": b"a", "0002.jpg": b"b", "._0001.jpg": b"c", "notes.txt": b"d"}) == first
    # Sorted as text, 1, 10, 2 and 1, 10, 11 are the same.
    assert folder("numbers", {"1.jpg": b"a", "2.jpg": b"c", "10.jpg": b"b"}) != folder(
        "later", {"1.jpg": b"a", "10.jpg": b"b", "11.jpg": b"c"}
    )


def test_a_video_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"gone.mp4: No such file"):
        video_digest(tmp_path / "gone.mp4")
