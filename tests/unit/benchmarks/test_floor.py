import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floor import Floor, least_work
from lavis.common.types import Question
from lavis.models.sevila.build import build_untrained
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG, random_pixels

ASKED = [Question("Is it red?", ("yes", "no")), Question("What is shown?", ("a box", "a ball"))]


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return build_untrained(CONFIG)


def counted(model: SeViLA, *, num_questions: int = 1, num_frames: int = 8, num_read: int = 4) -> Floor:
    return least_work(model, ASKED[:num_questions], num_frames=num_frames, num_keyframes=4, num_read=num_read)


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
