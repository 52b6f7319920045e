import pytest
import torch

from lavis.common.types import Question
from lavis.datasets.dataset import ClipBatch
from lavis.datasets.loader import EpochBatches
from lavis.runners.trainer import Plan, in_pieces


def test_a_large_batch_is_computed_in_pieces() -> None:
    values = torch.arange(5.0).view(5, 1)
    batch = ClipBatch(values, values, values.long(), tuple(Question(str(number)) for number in range(5)))
    pieces = list(in_pieces(batch, size=2, count=4, device=torch.device("cpu")))
    assert [piece.pixels.flatten().tolist() for piece in pieces] == [[0, 1], [2, 3], [4], []]
    assert [[question.text for question in piece.questions] for piece in pieces] == [["0", "1"], ["2", "3"], ["4"], []]
    assert [len(piece.times_s) for piece in pieces] == [2, 2, 1, 0]


def test_steps_stay_the_same_on_another_number_of_processes() -> None:
    def steps(processes: int) -> list[list[int]]:
        shares = [
            list(EpochBatches(10, batch_size=3, rank=rank, world_size=processes, samples_per_step=4))
            for rank in range(processes)
        ]
        return [[key.index for share in step for key in share] for step in zip(*shares, strict=True)]

    assert [len(step) for step in steps(1)] == [4, 4, 2]
    assert steps(1) == steps(2) == steps(3)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(max_epoch=3), 3),
        (Plan(max_epoch=3, valid_freq=2), 2),
        (Plan(max_epoch=4, valid_freq=2, validate_first=True), 3),
        (Plan(max_epoch=9, max_iters=11), 2),
        (Plan(max_epoch=9, max_iters=10), 1),
    ],
)
def test_validations_are_counted(plan: Plan, expected: int) -> None:
    assert plan.validations(10) == expected
