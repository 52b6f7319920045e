import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fixtures import questions
from benchmarks.flops import Flops, min_flops
from lavis.common.types import Question
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG, random_pixels

ASKED = [Question("Is it red?", ("yes", "no")), Question("What is shown?", ("a box", "a ball"))]


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return SeViLA.untrained(CONFIG)


def counted(model: SeViLA, *, num_questions: int = 1, num_frames: int = 8, num_read: int = 4) -> Flops:
    return min_flops(model, ASKED[:num_questions], num_frames=num_frames, num_keyframes=4, num_read=num_read)


@torch.inference_mode()
def q_former(model: SeViLA) -> int:
    """Operations of one frame in a visual prompter."""
    features = model.features(random_pixels(1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.answerer(features)
    return int(counter.get_total_flops())


def test_a_frame_that_is_read_costs_the_answerers_q_former_and_nothing_else(model: SeViLA) -> None:
    none, some = (counted(model, num_read=count) for count in (0, 5))
    assert (none.watch, none.localize) == (some.watch, some.localize)
    assert some.answer - none.answer == 5 * q_former(model)


def test_a_frame_that_is_watched_costs_the_vision_tower_and_the_localizers_q_former(model: SeViLA) -> None:
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.features(random_pixels(1))
    assert counted(model, num_frames=3).watch == 3 * (counter.get_total_flops() + q_former(model))


def test_a_video_is_watched_once_for_all_questions(model: SeViLA) -> None:
    one, both = (counted(model, num_questions=count) for count in (1, 2))
    assert both.watch == one.watch
    assert both.localize > one.localize
    assert both.answer > one.answer


def test_more_questions_cost_the_language_model_alone(model: SeViLA) -> None:
    asked = questions(1) * 2
    one, two = (min_flops(model, asked[:count], num_frames=8, num_keyframes=2, num_read=0) for count in (1, 2))
    assert two.watch == one.watch
    assert two.localize == 2 * one.localize
    assert two.answer == 2 * one.answer
    assert two.total == two.watch + two.localize + two.answer


def test_the_vision_tower_costs_its_matrices(model: SeViLA) -> None:
    counts = [min_flops(model, [], num_frames=frames, num_keyframes=1, num_read=0).watch for frames in (1, 3)]
    tokens, width, hidden = 4 + 1, 16, 32
    patches = 2 * 4 * width * 3 * 16 * 16
    block = 2 * tokens * (4 * width * width + 2 * width * hidden) + 4 * tokens * tokens * width
    assert counts[1] == 3 * counts[0]
    assert counts[0] - _prompter_operations(model) == patches + block


def _prompter_operations(model: SeViLA) -> float:
    counts = [min_flops(model, [], num_frames=1, num_keyframes=1, num_read=read).answer for read in (0, 1)]
    return counts[1] - counts[0]
