import pickle
from pathlib import Path

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError
from lavis.runners.checkpoint import ShardedWriter, read_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = ShardedWriter(World())
    values = {"weights.a": torch.arange(6.0).view(2, 3), "optimizer.0.step": torch.tensor(4.0)}
    writer.begin(values, tmp_path / "shards", then=(tmp_path / "done").touch)
    # What is being written must not follow what training does meanwhile.
    values["weights.a"].zero_()
    writer.wait()
    return tmp_path / "shards"


def test_what_was_given_comes_back_as_it_was_then(folder: Path) -> None:
    assert (folder.parent / "done").exists()
    found = read_shards(folder, layout=lambda _: None, world=World())
    assert found["weights.a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["optimizer.0.step"].item() == 4.0


def test_metadata_that_carries_code_is_refused_without_running_it(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"\.metadata is damaged: it holds "):
        read_shards(folder, layout=lambda _: None, world=World())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_damaged_metadata_is_said_to_be_so(folder: Path, keep: float) -> None:
    content = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match=r"\.metadata is damaged"):
        read_shards(folder, layout=lambda _: None, world=World())


def test_a_missing_share_is_said(folder: Path) -> None:
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(CheckpointError, match="shards is damaged"):
        read_shards(folder, layout=lambda _: None, world=World())
