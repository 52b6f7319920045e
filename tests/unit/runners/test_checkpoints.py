from pathlib import Path

import pytest
import torch

from lavis.runners.checkpoints import STATE_FILE, WEIGHTS_FILE, CheckpointStore


def saved(folder: Path, *steps: int, keep_last: int = 2) -> CheckpointStore:
    store = CheckpointStore(folder, keep_last=keep_last)
    for step in steps:
        store.save({"w": torch.full((2,), float(step))}, {"position": {"epoch": step}}, step=step)
    return store


def test_the_newest_comes_back_whole(tmp_path: Path) -> None:
    found = saved(tmp_path, 1, 5, 30).load_newest()
    assert found is not None
    weights, state = found
    assert weights["w"].tolist() == [30.0, 30.0]
    assert state == {"position": {"epoch": 30}}


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    assert saved(tmp_path, 1, 5, 30, keep_last=2).steps() == [5, 30]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000005", "step_00000030"]


@pytest.mark.parametrize("name", [WEIGHTS_FILE, STATE_FILE])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, keep: float) -> None:
    store = saved(tmp_path, 1, 2)
    file = tmp_path / "step_00000002" / name
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    found = store.load_newest()
    assert found is not None
    assert found[1] == {"position": {"epoch": 1}}


def test_without_any_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").load_newest() is None


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    store = saved(tmp_path, 4)
    store.save({"w": torch.zeros(1)}, {"position": {"epoch": 9}}, step=4)
    found = store.load_newest()
    assert found is not None
    assert found[1] == {"position": {"epoch": 9}}
