import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lavis.common.distributed import World
from lavis.common.types import Question
from lavis.datasets.dataset import ClipBatch, EpochBatches
from lavis.runners.optim import MovingAverage, Parallel
from lavis.runners.trainer import DivergedError, Plan, Updater, split_microbatches


def test_a_large_batch_is_computed_split_microbatches() -> None:
    values = torch.arange(5.0).view(5, 1)
    batch = ClipBatch(values, values, values.long(), tuple(Question(str(number)) for number in range(5)))
    microbatches = list(split_microbatches(batch, size=2, count=4, device=torch.device("cpu")))
    assert [piece.pixels.flatten().tolist() for piece in microbatches] == [[0, 1], [2, 3], [4], []]
    assert [[question.text for question in piece.questions] for piece in microbatches] == [
        ["0", "1"],
        ["2", "3"],
        ["4"],
        [],
    ]
    assert [len(piece.times_s) for piece in microbatches] == [2, 2, 1, 0]


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


class SquaredError:
    """The mean over samples of a squared output."""

    trainable = ("all",)

    def __call__(self, model: nn.Module, batch: ClipBatch) -> dict[str, Any]:
        return {"loss": (model(batch.pixels) ** 2).mean(), "largest": batch.pixels.max()}


def batch(*rows: int) -> ClipBatch:
    values = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ClipBatch(
        values[list(rows)], torch.zeros(len(rows), 1), torch.zeros(len(rows), 1), (Question("x"),) * len(rows)
    )


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1, dtype=torch.float64)


def updater(model: nn.Module, **options: Any) -> Updater:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    return Updater(Parallel(model, World()), SquaredError(), optimizer, world=World(), **options)


def gradients(model: nn.Module, *batches: ClipBatch, **options: Any) -> torch.Tensor:
    model = copy.deepcopy(model)
    updater(model, **options).accumulate(batches)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    "parts", [[(0, 1), (2, 3)], [(0,), (1, 2, 3)], [(0, 1, 2, 3), ()], [(), (0, 1), (2,), (3,)]], ids=str
)
def test_every_sample_of_a_step_weighs_the_same(model: nn.Module, parts: list[tuple[int, ...]]) -> None:
    together = gradients(model, batch(0, 1, 2, 3))
    assert torch.allclose(gradients(model, *(batch(*rows) for rows in parts)), together, rtol=1e-12)


def test_published_accumulation_adds_mean_losses_up(model: nn.Module) -> None:
    apart = [gradients(model, batch(0)), gradients(model, batch(1, 2, 3))]
    assert torch.allclose(gradients(model, batch(0), batch(1, 2, 3), divide=False), sum(apart), rtol=1e-12)


def test_figures_are_means_over_samples(model: nn.Module) -> None:
    whole = updater(model).accumulate([batch(0, 1, 2, 3)])
    parts = updater(model).accumulate([batch(0), batch(1, 2, 3)])
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-12)
    largest = [batch(0).pixels.max(), batch(1, 2, 3).pixels.max()]
    assert parts.metrics["largest"] == pytest.approx(float(largest[0] + 3 * largest[1]) / 4)
    assert parts.samples == 4


def test_a_step_without_samples_changes_nothing(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    assert updater(model).update([batch(), batch()], rate=0.1).samples == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_loss_that_is_no_number_stops_before_weights_change(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    bad = ClipBatch(torch.full((1, 3), torch.nan, dtype=torch.float64), *torch.zeros(2, 1, 1), (Question("x"),))
    with pytest.raises(DivergedError, match="the loss is nan"):
        updater(model).update([bad], rate=0.1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_gradients_are_clipped_to_the_largest_norm(model: nn.Module) -> None:
    norm = float(gradients(model, batch(0, 1)).norm())
    plain = torch.optim.SGD(model.parameters(), lr=1.0)
    before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    step = Updater(Parallel(model, World()), SquaredError(), plain, world=World(), clip_grad_norm=norm / 4)
    report = step.update([batch(0, 1)], rate=0.5)
    moved = before - torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert report.grad_norm == pytest.approx(norm)
    assert float(moved.norm()) == pytest.approx(0.5 * norm / 4, rel=1e-4)


def continued(make: Callable[[nn.Module], Updater], model: nn.Module, *, interrupted: bool) -> torch.Tensor:
    model = copy.deepcopy(model)
    step = make(model)
    for number in range(4):
        if interrupted and number == 2:
            step.accumulate([batch(9)])
            state = copy.deepcopy(step.state_dict())
            model = copy.deepcopy(model)
            model.zero_grad()
            step = make(model)
            step.load_state_dict(state)
        elif number == 2:
            step.accumulate([batch(9)])
        step.update([batch(number, number + 1)], rate=0.1)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_saved_state_goes_on_exactly_leftover_gradients_included(model: nn.Module) -> None:
    assert torch.equal(continued(updater, model, interrupted=True), continued(updater, model, interrupted=False))


def test_moving_average_follows_and_is_put_in_place_for_a_while(model: nn.Module) -> None:
    average = MovingAverage(list(model.named_parameters()), decay=0.75)
    start = model.weight.detach().clone()
    updater(model, average=average).update([batch(0)], rate=0.1)
    trained = model.weight.detach().clone()
    with average.in_place():
        assert torch.allclose(model.weight, 0.75 * start + 0.25 * trained)
    assert torch.equal(model.weight, trained)
