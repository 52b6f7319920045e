import json
import pickle
import resource
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError
from lavis.common.files import file_digest
from lavis.models.checkpoints.weights_io import write_weights
from lavis.runners.checkpoint import (
    MANIFEST,
    STATE_FILE,
    Best,
    BestCheckpoint,
    Checkpoint,
    CheckpointSaver,
    CheckpointStore,
    RunShape,
    RunState,
    load_state,
    packed,
    read_tensors,
    rng_state,
    set_rng_state,
)

SHARE, METADATA = "__0_0.distcp", ".metadata"
SHAPE = RunShape(seed=1, num_samples=7, samples_per_step=2, processes=1)


def save(store: CheckpointStore, step: int) -> None:
    tensors = {"weights.w": torch.full((2,), float(step)), "optimizer.0.step": torch.tensor(float(step))}
    CheckpointSaver(store, world=World()).save(RunState(tensors, {"position": {"epoch": step}}), step=step, shape=SHAPE)


def saved(folder: Path, *steps: int, keep_last: int = 2) -> CheckpointStore:
    store = CheckpointStore(folder, keep_last=keep_last)
    for step in steps:
        save(store, step)
    return store


def load(found: Checkpoint | None) -> RunState:
    assert found is not None
    return load_state(found, layout={}, world=World())


def test_the_newest_comes_back_whole(tmp_path: Path) -> None:
    found = saved(tmp_path, 1, 5, 30).newest()
    state = load(found)
    assert {name: value.tolist() for name, value in state.tensors.items()} == {
        "weights.w": [30.0, 30.0],
        "optimizer.0.step": 30.0,
    }
    assert state.rest == {"position": {"epoch": 30}}
    assert found is not None
    assert (found.step, found.shape) == (30, SHAPE)


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    assert saved(tmp_path, 1, 5, 30, keep_last=2).steps() == [5, 30]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000005", "step_00000030"]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("name", [SHARE, METADATA, STATE_FILE, MANIFEST])
@pytest.mark.parametrize("damage", [truncate, empty, flip, Path.unlink])
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
    CheckpointSaver(store, world=World()).save(
        RunState({"weights.w": torch.zeros(1)}, {"position": {"epoch": 9}}), step=4, shape=SHAPE
    )
    assert load(store.newest()).rest == {"position": {"epoch": 9}}
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000004"]


def test_what_was_not_written_as_meant_never_becomes_a_checkpoint(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    made = store.begin(2)
    (made / "a").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="fails its checksum"):
        store.finish(made, step=2, shape=SHAPE, digests={"a": "0" * 64})
    assert store.steps() == [1]


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    (store.begin(2) / SHARE).write_bytes(b"half")
    assert store.steps() == [1]
    save(CheckpointStore(tmp_path), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001", "step_00000003"]


def test_a_state_that_carries_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    checkpoint = saved(tmp_path, 1).newest()
    assert checkpoint is not None
    torch.save({"rng": Evil()}, tmp_path / "step_00000001" / STATE_FILE)
    with pytest.raises(CheckpointError, match="is damaged"):
        load(replace(checkpoint, files={}))
    assert not (tmp_path / "ran").exists()


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saver = CheckpointSaver(CheckpointStore(tmp_path), world=World(), in_background=True)
    values = {"weights.a": torch.arange(6.0).view(2, 3), "optimizer.0.step": torch.tensor(4.0)}
    saver.save(RunState(values), step=1, shape=SHAPE)
    # What is being written must not follow what training does meanwhile.
    values["weights.a"].zero_()
    saver.wait()
    return tmp_path / "step_00000001"


def test_what_was_given_comes_back_as_it_was_then(folder: Path) -> None:
    found = read_tensors(folder, layout={}, world=World())
    assert found["weights.a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["optimizer.0.step"].item() == 4.0


def test_metadata_that_carries_code_is_refused_without_running_it(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"\.metadata is damaged: it holds "):
        read_tensors(folder, layout={}, world=World())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_damaged_metadata_is_said_to_be_so(folder: Path, keep: float) -> None:
    content = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match=r"\.metadata is damaged"):
        read_tensors(folder, layout={}, world=World())


def test_a_missing_share_is_said(folder: Path) -> None:
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(CheckpointError, match="step_00000001 is damaged"):
        read_tensors(folder, layout={}, world=World())


def written(folder: Path, value: float, *, epoch: int = 1) -> BestCheckpoint:
    weights = BestCheckpoint(folder)
    best = Best(value, epoch, 10 * epoch)
    weights.write({"w": torch.tensor([value])}, model_name="m", config="{}", best=best, metrics={"val": {"a": value}})
    return weights


def test_the_best_come_back_with_the_figure_that_made_them_so(tmp_path: Path) -> None:
    weights = written(tmp_path, 3.0)
    weights = written(tmp_path, 5.0, epoch=2)
    assert weights.find() == Best(5.0, 2, 20)
    assert weights.read()["w"].tolist() == [5.0]
    facts = json.loads((tmp_path / "best" / "metrics.json").read_text())
    assert (facts["epoch"], facts["metrics"]) == (2, {"val": {"a": 5.0}})
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_damaged_ones_do_not_count(tmp_path: Path) -> None:
    weights = written(tmp_path, 3.0)
    file = tmp_path / "best" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights.find() is None


def test_a_kill_between_old_and_new_leaves_the_old(tmp_path: Path) -> None:
    written(tmp_path, 3.0)
    (tmp_path / "best").rename(tmp_path / ".best.old")
    assert BestCheckpoint(tmp_path).find() == Best(3.0, 1, 10)


def test_without_any_there_is_nothing(tmp_path: Path) -> None:
    assert BestCheckpoint(tmp_path).find() is None


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """On one process, or with DDP, weights and all other tensors lay in files of their own."""
    folder = CheckpointStore(tmp_path).begin(3)
    write_weights(folder / "weights.safetensors", {"w": torch.tensor([3.0])}, metadata={"format": "pt"})
    others = {"optimizer.0.step": torch.tensor(3.0)}
    (folder / STATE_FILE).write_bytes(packed({"position": {"epoch": 3}, "tensors": others}))
    files = {name: file_digest(folder / name) for name in ("weights.safetensors", STATE_FILE)}
    manifest = {"step": 3, "layout": "whole", "shape": asdict(SHAPE), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    folder.rename(tmp_path / "step_00000003")
    state = load(CheckpointStore(tmp_path).newest())
    assert {name: value.tolist() for name, value in state.tensors.items()} == {
        "weights.w": [3.0],
        "optimizer.0.step": 3.0,
    }
    assert state.rest == {"position": {"epoch": 3}}


def test_a_full_disk_is_said_and_what_was_written_is_removed(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            CheckpointSaver(store, world=World()).save(RunState({"weights.w": torch.zeros(1_000)}), step=2, shape=SHAPE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
