from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError
from lavis.runners.checkpoint import (
    MANIFEST,
    STATE_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointStore,
    RunShape,
    RunState,
    WholeSaver,
    load_state,
    rng_state,
    set_rng_state,
)

SHAPE = RunShape(seed=1, num_samples=7, samples_per_step=2, processes=1)


def save(store: CheckpointStore, step: int) -> None:
    tensors = {"weights.w": torch.full((2,), float(step)), "optimizer.0.step": torch.tensor(float(step))}
    WholeSaver(store, world=World()).save(RunState(tensors, {"position": {"epoch": step}}), step=step, shape=SHAPE)


def saved(folder: Path, *steps: int, keep_last: int = 2) -> CheckpointStore:
    store = CheckpointStore(folder, keep_last=keep_last)
    for step in steps:
        save(store, step)
    return store


def load(found: Checkpoint | None) -> RunState:
    assert found is not None
    return load_state(found, layout=lambda _: None, world=World())


def test_the_newest_comes_back_whole(tmp_path: Path) -> None:
    found = saved(tmp_path, 1, 5, 30).newest()
    state = load(found)
    assert {name: value.tolist() for name, value in state.tensors.items()} == {
        "weights.w": [30.0, 30.0],
        "optimizer.0.step": 30.0,
    }
    assert state.rest == {"position": {"epoch": 30}}
    assert found is not None
    assert (found.manifest.step, found.manifest.shape) == (30, SHAPE)


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    assert saved(tmp_path, 1, 5, 30, keep_last=2).steps() == [5, 30]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000005", "step_00000030"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, STATE_FILE, MANIFEST])
@pytest.mark.parametrize("damage", [cut, empty, flip, Path.unlink])
def test_a_damaged_one_is_set_aside_with_a_warning_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("lavis.runners.checkpoint.logger.warning", lambda text, *values: said.append(text % values))
    store = saved(tmp_path, 1, 2)
    damage(tmp_path / "step_00000002" / name)
    if damage is flip and name == MANIFEST:  # may still be JSON; what it says about files must not fit
        (tmp_path / "step_00000002" / name).write_text("{}")
    assert load(store.newest()).rest == {"position": {"epoch": 1}}
    assert len(said) == 1
    assert said[0].startswith("a checkpoint is passed over and kept as damaged_step_00000002: ")
    assert store.steps() == [1]
    assert (tmp_path / "damaged_step_00000002").is_dir()


def test_without_any_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").newest() is None


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    store = saved(tmp_path, 4)
    WholeSaver(store, world=World()).save(
        RunState({"weights.w": torch.zeros(1)}, {"position": {"epoch": 9}}), step=4, shape=SHAPE
    )
    assert load(store.newest()).rest == {"position": {"epoch": 9}}
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000004"]


def test_what_was_not_written_as_meant_never_becomes_a_checkpoint(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    made = store.begin(2)
    (made / "a").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="fails its checksum"):
        store.finish(made, step=2, layout="whole", shape=SHAPE, digests={"a": "0" * 64})
    assert store.steps() == [1]


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    (store.begin(2) / WEIGHTS_FILE).write_bytes(b"half")
    assert store.steps() == [1]
    save(CheckpointStore(tmp_path), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001", "step_00000003"]


def test_a_state_that_carries_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    store = saved(tmp_path, 1)
    torch.save({"rng": Evil()}, tmp_path / "step_00000001" / STATE_FILE)
    with pytest.raises(CheckpointError, match="is damaged"):
        load(Checkpoint(tmp_path / "step_00000001", manifest=load_manifest(store)))
    assert not (tmp_path / "ran").exists()


def load_manifest(store: CheckpointStore):  # type: ignore[no-untyped-def]
    from lavis.runners.checkpoint import Manifest

    return Manifest(step=1, layout="whole", shape=SHAPE, files={})


def test_random_numbers_go_on_where_they_were() -> None:
    import random

    import numpy as np

    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), float(np.random.standard_normal()), float(torch.rand(1))]

    draw()
    state = rng_state(World())
    expected = draw()
    draw()
    set_rng_state(state, World())
    assert draw() == expected
