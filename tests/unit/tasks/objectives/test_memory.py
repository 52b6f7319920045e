"""Tokens of the frozen Localizer that were kept are those that would be made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.common.types import Question
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.tasks.objectives.answerer import AnswererFinetuning
from lavis.tasks.objectives.base import TrainingBatch
from lavis.tasks.objectives.teacher import ClipMemory
from tests.precision import assert_near_float64, in_float64
from tests.unit.models.tiny import CONFIG, random_pixels, recorded

FRAMES = 4


@pytest.fixture
def model() -> SeViLA:
    return SeViLA.untrained(CONFIG).eval()


def batch(*clips: int) -> TrainingBatch:
    """A question about each of the clips with these numbers."""
    pixels = torch.stack([random_pixels(FRAMES, seed=clip) for clip in clips])
    questions = [
        Question("what is it", ("red", "green", "blue"), id=f"{place}", answer=place % 3) for place in range(len(clips))
    ]
    return TrainingBatch(pixels, torch.zeros(len(clips), FRAMES), questions)


def tokens_at(memory: ClipMemory | None, model: SeViLA, asked: TrainingBatch, *frames: int) -> torch.Tensor:
    """The Localizer's tokens of frames with these numbers in the batch; of all where none is named."""
    numbers, made = frames or range(len(asked) * FRAMES), []
    for row, pixels in enumerate(asked.pixels):
        kept = memory.of(pixels) if memory else None
        clip = FrameSource(np.arange(FRAMES), np.arange(FRAMES) / 2, pixels=pixels, memory=kept)
        positions = [number - row * FRAMES for number in numbers if number // FRAMES == row]
        if positions:
            made.append(clip.encoded(model.encoder("localizer"), positions))
    return torch.cat(made)


@pytest.mark.parametrize("frames", [(), (1, 2, 4, 11), (9,)], ids=str)
def test_kept_tokens_are_those_of_the_frames_asked_for(frames: tuple[int, ...], model: SeViLA, tmp_path: Path) -> None:
    cached, asked = ClipMemory(FrameCache(tmp_path), origin="x"), batch(0, 1, 2)
    made = tokens_at(cached, model, asked, *frames)
    assert_near_float64(made, tokens_at(None, in_float64(model), asked, *frames))
    with recorded(model.vision) as watched:
        found = tokens_at(cached, model, asked, *frames)
    assert watched == []
    assert torch.equal(found, made)
    assert not found.requires_grad


def test_a_clip_is_watched_once_for_all_questions_about_it(model: SeViLA, tmp_path: Path) -> None:
    with recorded(model.vision) as watched:
        tokens_at(ClipMemory(FrameCache(tmp_path), origin="x"), model, batch(0, 1, 0))
        tokens_at(ClipMemory(FrameCache(tmp_path), origin="x"), model, batch(2, 1))
    assert [len(pixels) for pixels in watched] == [FRAMES] * 3


def test_clips_without_a_frame_that_is_asked_for_are_not_watched(model: SeViLA, tmp_path: Path) -> None:
    with recorded(model.vision) as watched:
        tokens_at(ClipMemory(FrameCache(tmp_path), origin="x"), model, batch(0, 1), FRAMES + 1)
    assert [len(pixels) for pixels in watched] == [FRAMES]


def test_tokens_of_another_origin_are_not_found(model: SeViLA, tmp_path: Path) -> None:
    with recorded(model.vision) as watched:
        for origin in ("x", "y"):
            tokens_at(ClipMemory(FrameCache(tmp_path), origin=origin), model, batch(0))
    assert len(watched) == 2


def test_a_step_learns_the_same_whether_tokens_were_found_or_made(model: SeViLA, tmp_path: Path) -> None:
    model.set_trainable(["answerer"])
    learned = []
    for _ in range(2):
        memory = ClipMemory(FrameCache(tmp_path), origin="x")
        objective = AnswererFinetuning(prompt="multiple_choice", k=2, selector="localizer", memory=memory)
        model.zero_grad()
        with recorded(model.vision) as watched:
            found = objective(model, batch(0, 1))
        found["loss"].backward()
        gradients = torch.cat([parameter.grad.flatten() for _, parameter in model.trainable_parameters()])
        learned.append((found["loss"], gradients, [len(pixels) for pixels in watched]))
    (loss, gradients, made), (loss_again, gradients_again, found_again) = learned
    assert (made, found_again) == ([FRAMES, FRAMES, 4], [4])
    assert torch.equal(loss, loss_again)
    assert torch.equal(gradients, gradients_again)
