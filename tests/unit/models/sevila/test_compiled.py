from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from lavis.common.types import Question
from lavis.models.sevila.compiled import rounded_length, rounded_rows
from lavis.models.sevila.model import SeViLA
from tests.precision import assert_near_float64
from tests.unit.models.tiny import CONFIG, encoded, frames_of, random_pixels


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def compiled() -> SeViLA:
    """The shared model's twin; this backend runs what was traced as it is, and needs no C++ compiler."""
    model = SeViLA.untrained(CONFIG)
    model.compile_parts(backend="eager")
    return model


def asked(count: int, *, words: int) -> list[Question]:
    return [Question("why " * (words + number), ("a", "b"), id=str(number)) for number in range(count)]


@pytest.mark.parametrize(("count", "rounded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (16, 16), (33, 64)])
def test_rows_are_rounded_up_to_a_power_of_two(count: int, rounded: int) -> None:
    assert rounded_rows(count) == rounded


@pytest.mark.parametrize(("length", "rounded"), [(1, 32), (32, 32), (33, 64), (100, 128)])
def test_lengths_are_rounded_up_to_a_multiple_of_32(length: int, rounded: int) -> None:
    assert rounded_length(length) == rounded


@torch.inference_mode()
def test_a_compiled_model_says_the_same(exact_model: SeViLA) -> None:
    ours = compiled()
    found, expected = (encoded(model, random_pixels(5)) for model in (ours, exact_model))
    frames = [frames_of(random_pixels(5), model) for model in (ours, exact_model)]
    assert_near_float64(found["localizer"], expected["localizer"])
    assert_near_float64(found["answerer"], expected["answerer"])
    scores = [
        model.as_scorer(prompt="moment").score(seen, asked(3, words=4))
        for model, seen in zip((ours, exact_model), frames, strict=True)
    ]
    assert_near_float64(scores[0].scores, scores[1].scores, dtype=torch.float32)
    positions = np.array([[0, 2], [1, 4], [3, 4]])
    answers = [
        model.as_answerer(prompt="multiple_choice", packing="joint").answer(seen, positions, asked(3, words=4))
        for model, seen in zip((ours, exact_model), frames, strict=True)
    ]
    for one, other in zip(*answers, strict=True):
        assert_near_float64(one.option_scores, other.option_scores, dtype=torch.float32)
    assert counters["stats"]["unique_graphs"] > 0


@torch.inference_mode()
def test_batches_of_other_sizes_are_not_compiled_again() -> None:
    model = compiled()
    localizer = model.as_scorer(prompt="moment")

    def run(num_frames: int, *, words: int) -> int:
        localizer.score(frames_of(random_pixels(num_frames), model), asked(1, words=words))
        return counters["stats"]["unique_graphs"]

    first = run(8, words=6)
    assert first > 0
    assert [run(num_frames, words=words) for num_frames in (5, 6, 7, 8) for words in (4, 5, 7)] == [first] * 12


@torch.inference_mode()
def test_frames_that_are_read_later_are_compiled_for_few_numbers_of_them() -> None:
    model = compiled()

    def run(count: int) -> int:
        frames = frames_of(random_pixels(16), model, chunk=16)
        frames.encoded(model.encoder("localizer"))
        frames.encoded(model.encoder("answerer"), np.arange(count))
        return counters["stats"]["unique_graphs"]

    once = [run(count) for count in (1, 2, 4, 8, 16)]
    # For 16 frames the Localizer's Q-Former is compiled already, and the two are one function to torch.
    assert len(set(once)) == 4
    assert [run(count) for count in range(1, 17)] == once[-1:] * 16


def test_weights_keep_their_names_and_tokens_their_own_key(tiny_model: SeViLA) -> None:
    model = compiled()
    assert model.state_dict().keys() == tiny_model.state_dict().keys()
    assert model.watching_key() != tiny_model.watching_key()


@torch.inference_mode()
def test_every_rounded_shape_is_compiled_however_many_there_are() -> None:
    model = compiled()
    localizer = model.as_scorer(prompt="moment")
    for num_frames in (1, 2, 4, 8, 16):
        frames = frames_of(random_pixels(num_frames), model)
        frames.encoded(model.encoder("answerer"))
        for words in (2, 40):
            localizer.score(frames, asked(1, words=words))
    # Vision tower, two Q-Formers, which are one function to torch, and 2 lengths of text.
    assert counters["stats"]["unique_graphs"] == 5 * (1 + 1 + 2)
