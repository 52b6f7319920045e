"""A run that is killed at any moment and started again ends as one that was not: weights, figures and log."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.playing import harm, outcome, play, start
from tests.integration.training.tiny_run import STAGES

# Four batches an epoch, two epochs; a checkpoint every two batches.
_STEPS = 8
# How often a whole run passes each seam, and the moments around it.
_SEAMS = {"step": _STEPS, "accumulate": _STEPS, "begin_save": 4, "finish_save": 4, "validate": 2, "finish": 1}

Point = tuple[str, int, dict[str, Any]]


def random_points(count: int) -> list[Point]:
    """Moments of death, spread over all modes and numbers of processes."""
    rng = random.Random(20)
    places = [(stage, processes) for stage in STAGES for processes in (1, 2)]
    points = []
    for number in range(count):
        stage, processes = places[number % len(places)]
        # Half of the deaths come in the middle of an epoch's steps, the others anywhere else.
        seam = "step" if rng.random() < 0.5 else rng.choice(sorted(_SEAMS))
        rank = 0 if "save" in seam else rng.randrange(processes)
        at = rng.randint(1, _SEAMS[seam])
        points.append((stage, processes, harm(seam, at, when=rng.choice(["before", "after"]), rank=rank)))
    return points


SAMPLE: list[Point] = [
    ("finetune", 2, harm("step", 4, when="after", rank=1)),
    ("refine", 1, harm("finish_save", 3)),
    ("pretrain", 1, harm("step", 7)),
    ("atp", 1, harm("step", 6)),
]


def check(points: list[Point], data: Path, model_folder: Path, folder: Path) -> None:
    places = {"data": data, "model": model_folder}
    whole = {(stage, processes): folder / f"{stage}_{processes}" for stage, processes, _ in points}
    starts = [start(stage, output, processes=count, **places) for (stage, count), output in whole.items()]
    for number, (stage, processes, death) in enumerate(points):
        output = folder / f"killed_{number}"
        starts.append(start(stage, output, processes=processes, harm=death, **places))
        starts.append(start(stage, output, processes=processes, **places))
    codes = play(starts, folder)
    assert all(set(found) == {0} for found in codes[: len(whole)])
    expected = {place: outcome(output) for place, output in whole.items()}
    for number, (stage, processes, death) in enumerate(points):
        first, second = codes[len(whole) + 2 * number :][:2]
        # Who outlives another notices, if only when all part at the end.
        assert first == [-9 if rank == death["rank"] else 1 for rank in range(processes)], (number, death)
        assert set(second) == {0}, (number, death)
        assert outcome(folder / f"killed_{number}") == expected[stage, processes], (number, death)


def test_a_killed_run_goes_on_to_the_same_end(data: Path, model_folder: Path, tmp_path: Path) -> None:
    check(SAMPLE, data, model_folder, tmp_path)


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_points_goes_on_to_the_same_end(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    check(random_points(20), data, model_folder, tmp_path)


def test_the_same_seed_gives_the_same_result(data: Path, model_folder: Path, tmp_path: Path) -> None:
    places = {"data": data, "model": model_folder}
    outputs = [tmp_path / "first", tmp_path / "second", tmp_path / "other"]
    starts = [start("finetune", output, **places, max_iters=3) for output in outputs[:2]]
    starts.append(start("finetune", outputs[2], **places, max_iters=3, seed=43))
    assert play(starts, tmp_path) == [[0], [0], [0]]
    first, second, other = map(outcome, outputs)
    assert first == second
    assert first["state"] != other["state"]
