"""Compiled models answer like plain ones, and meet no new shape in a batch of another size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import lavis
from lavis.common.types import Answer, Question
from lavis.demo.videos import read_examples
from lavis.models.precision import quantize_parts
from lavis.models.sevila.model import SeViLA
from tests.precision import assert_near_float64, in_float64
from tests.unit.models.tiny import frames_of, random_pixels, with_vision

# Rounding to 8 bits turns the last bit of what is computed in another order into a step.
EXACT, ROUNDED = 1e-4, 0.02


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def asked(count: int) -> list[Question]:
    options = read_examples()[0].questions[0].options
    return [Question(f"{'and ' * number}what is there", options, id=str(number)) for number in range(count)]


def small(*, quantize: str | None = None) -> SeViLA:
    """A model whose vision tower is wide enough for whole numbers."""
    model = SeViLA.untrained(
        with_vision(args={"patch_size": 16, "width": 32, "depth": 1, "num_heads": 2, "intermediate_size": 32})
    )
    if quantize:
        quantize_parts([model.vision, model.language.model], quantize)
    return model


@torch.inference_mode()
def scores(model: SeViLA, num_frames: int) -> np.ndarray:
    frames = frames_of(random_pixels(num_frames), model)
    return model.as_scorer(prompt="moment").score(frames, asked(1)).scores


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_code_made_for_one_batch_serves_smaller_ones(quantize: str | None) -> None:
    plain, ours = small(quantize=quantize), small(quantize=quantize)
    expected = {count: scores(plain if quantize else in_float64(plain), count) for count in range(5, 9)}
    # Traces and differentiates as every backend does; what is left out is the C++ compiler.
    ours.compile_parts(backend="aot_eager")
    assert_near_float64(scores(ours, 8), expected[8], dtype=torch.float32)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for num_frames in (5, 6, 7, 8):
            assert_near_float64(scores(ours, num_frames), expected[num_frames], dtype=torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "worst"), [(None, EXACT), ("int8", ROUNDED)])
def test_the_embedded_model_answers_the_same_through_compiled_code(quantize: str | None, worst: float) -> None:
    plain, ours = (
        lavis.load_model("sevila", "tiny", device="cpu", quantize=quantize, compiled=compiled)
        for compiled in (False, True)
    )
    compare(answers(ours, 8), answers(plain, 8), worst)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for num_frames in (8, 7):
            compare(answers(ours, num_frames), answers(plain, num_frames), worst)


def answers(model: Any, num_frames: int) -> list[Answer]:
    return model.watch(read_examples()[0].clip, num_frames=num_frames).ask_all(asked(2), num_keyframes=2)


def compare(ours: list[Answer], plain: list[Answer], worst: float) -> None:
    for one, other in zip(ours, plain, strict=True):
        spread = np.abs(other.keyframes.all_scores).max()
        np.testing.assert_allclose(one.keyframes.all_scores, other.keyframes.all_scores, rtol=0, atol=worst * spread)
        if worst == EXACT:
            np.testing.assert_allclose(one.option_scores, other.option_scores, rtol=0, atol=worst)
            assert one.index == other.index
