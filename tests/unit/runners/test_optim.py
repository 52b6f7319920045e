import json
from itertools import product
from pathlib import Path

import pytest

from lavis.common.files import configs_dir
from lavis.runners.config import load_train_config
from lavis.runners.optim import Schedule, build_schedule

GOLDEN = json.loads((Path(__file__).parent / "golden" / "lr_schedules.json").read_text())
PUBLISHED = ("linear_warmup_cosine_lr", "linear_warmup_step_lr")
CASES = [(name, case) for name in PUBLISHED for case in GOLDEN[name]]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}{i}" for i, (name, _) in enumerate(CASES)])
def test_published_schedules_give_the_published_rates(name: str, case: dict) -> None:
    config = {("steps_per_epoch" if key == "iters_per_epoch" else key): value for key, value in case["config"].items()}
    if name == "linear_warmup_step_lr":
        config.setdefault("decay_rate", 1.0)
    schedule = Schedule(**config, as_published=True)
    for epoch, step, rate in case["rows_epoch_step_lr"]:
        assert schedule.rate(epoch=epoch, step=step) == pytest.approx(rate, rel=1e-12)


def rates(schedule: Schedule, *, epochs: int, steps: int) -> list[float]:
    return [schedule.rate(epoch=epoch, step=step) for epoch, step in product(range(epochs), range(steps))]


def test_warm_up_crosses_epochs_and_the_last_step_reaches_the_lowest_rate() -> None:
    schedule = Schedule(init_lr=1.0, min_lr=0.1, warmup_start_lr=0.0, warmup_steps=6, max_epoch=3, steps_per_epoch=4)
    found = rates(schedule, epochs=3, steps=4)
    assert found[:7] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert found[6:] == sorted(found[6:], reverse=True)
    assert found[-1] == pytest.approx(0.1)
    assert found[-2] > 0.1


@pytest.mark.parametrize(("max_iters", "last"), [(5, 4), (12, 11), (100, 11)])
def test_a_run_that_ends_early_reaches_the_lowest_rate_too(max_iters: int, last: int) -> None:
    schedule = Schedule(init_lr=1.0, min_lr=0.1, max_epoch=3, steps_per_epoch=4, max_iters=max_iters)
    found = rates(schedule, epochs=3, steps=4)
    assert found[last] == pytest.approx(0.1)
    assert found[last - 1] > 0.11


def test_step_schedule_decays_by_the_epoch_down_to_the_lowest_rate() -> None:
    schedule = Schedule(
        init_lr=1.0,
        min_lr=0.2,
        warmup_start_lr=0.0,
        warmup_steps=2,
        decay_rate=0.5,
        max_epoch=4,
        steps_per_epoch=3,
    )
    assert rates(schedule, epochs=4, steps=3) == [0.0, 0.5, 1.0, *[0.5] * 3, *[0.25] * 3, *[0.2] * 3]


@pytest.mark.parametrize("decay_rate", [None, 1.0])
@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({"warmup_steps": 4}, [3e-5] * 6),
        ({"warmup_steps": 4, "warmup_start_lr": -1}, [3e-5] * 6),
        ({"warmup_steps": 2, "warmup_start_lr": 1e-5}, [1e-5, 2e-5, 3e-5, 3e-5]),
        ({"warmup_start_lr": 1e-8}, [1e-8, 3e-5, 3e-5]),
    ],
)
def test_published_warm_up_begins_where_it_says_or_at_full_rate(
    decay_rate: float | None, given: dict, first: list[float]
) -> None:
    """As LAVIS' `LinearWarmup*LRScheduler`: below 0 is no start of its own, and no steps still take one."""
    schedule = Schedule(
        init_lr=3e-5, min_lr=0.0, max_epoch=3, steps_per_epoch=6, decay_rate=decay_rate, as_published=True, **given
    )
    assert [schedule.rate(epoch=0, step=step) for step in range(len(first))] == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("name", ["linear_warmup_cosine_lr", "linear_warmup_step_lr"])
def test_a_run_without_a_warm_up_start_begins_at_its_full_rate(name: str, quirks: bool) -> None:
    options = ["run.warmup_lr=null", "run.warmup_steps=5", f"run.lr_sched={name}", f"run.published_quirks={quirks}"]
    run = load_train_config(configs_dir() / "sevila" / "refine" / "nextqa.yaml", options=options).run
    schedule = build_schedule(run, steps_per_epoch=10)
    assert [schedule.rate(epoch=0, step=step) for step in range(6)] == pytest.approx([run.init_lr] * 6)
