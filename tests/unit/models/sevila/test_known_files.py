from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lavis.common.errors import CheckpointError
from lavis.models.sevila.known_files import open_source

SavePublished = Callable[[str], Path]


def test_an_index_that_points_elsewhere_or_at_nothing_is_refused(save_published: SavePublished) -> None:
    folder = save_published("flan-t5")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing: .*index\.json lists it"):
        open_source(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret"}}')
    with pytest.raises(CheckpointError, match=r"names '\.\./secret', which is not a file beside it"):
        open_source(folder)


@pytest.mark.parametrize("names", [["a", "b"], ["resnet.conv1.weight"]])
def test_a_file_of_another_kind_of_model_is_refused(names: list[str], tmp_path: Path) -> None:
    save_file({name: torch.ones(1) for name in names}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="belongs to no known model: it holds names such as"):
        open_source(tmp_path / "other.safetensors")


def test_a_name_that_the_files_kind_does_not_have_is_unexpected(save_published: SavePublished) -> None:
    path = save_published("qformer_loc.pth")
    content = torch.load(path, weights_only=True)
    content["model"]["Qformer_loc.cls.predictions.bias"] = torch.ones(1)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"holds 1 unexpected weights \(Qformer_loc\.cls\.predictions\.bias\)"):
        open_source(path)


@pytest.mark.parametrize("wrap", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("name", ["eva_vit_g.pth", "sevila_pretrained.pth", "whole.pth"])
def test_a_published_file_with_a_wrappers_names_is_the_file_itself(
    name: str, wrap: str, save_published: SavePublished, tmp_path: Path
) -> None:
    plain = open_source(save_published(name))
    content = torch.load(plain.path, weights_only=True)
    state = {f"{wrap}{key}": value for key, value in content.get("model", content).items()}
    torch.save({"model": state}, tmp_path / "wrapped.pth")
    found = open_source(tmp_path / "wrapped.pth")
    assert (found.kind, found.weights.keys()) == (plain.kind, plain.weights.keys())
    assert all(torch.equal(found.weights[key], value) for key, value in plain.weights.items())
