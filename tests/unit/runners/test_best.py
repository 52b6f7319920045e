import json
from pathlib import Path

import torch

from lavis.runners.checkpoint import Best, BestWeights


def written(folder: Path, value: float, *, epoch: int = 1) -> BestWeights:
    weights = BestWeights(folder)
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
    assert BestWeights(tmp_path).find() == Best(3.0, 1, 10)


def test_without_any_there_is_nothing(tmp_path: Path) -> None:
    assert BestWeights(tmp_path).find() is None
