from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lavis.common.errors import CheckpointError, ConfigError
from lavis.models.checkpoints.weights_io import read_weights, state_of
from lavis.models.sevila.convert import convert, export_published
from lavis.models.sevila.known_files import open_source
from lavis.models.sevila.model import SeViLA

SavePublished = Callable[[str], Path]


def weights_of(model: SeViLA) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in state_of(model).items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_export_gives_back_every_published_tensor(
    suffix: str, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    published = save_published("whole.pth")
    convert([published], tmp_path / "made", size=size_file, tokenizer=save_published("flan-t5"), language_dtype="keep")
    wanted = torch.load(published, weights_only=True)["model"]
    target = tmp_path / f"export{suffix}"
    assert export_published(tmp_path / "made", target) == len(wanted)
    found = read_weights(target)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert {name: value.dtype for name, value in found.items()} == {name: v.dtype for name, v in wanted.items()}


def test_the_export_of_the_prompters_is_as_large_as_they_are(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "made")
    export_published(tmp_path / "made", tmp_path / "prompters.pth", parts=["localizer", "answerer"])
    found = torch.load(tmp_path / "prompters.pth", weights_only=True)["model"]
    wanted = {name: value for name, value in weights_of(model).items() if name.startswith(("localizer.", "answerer."))}
    assert open_source(tmp_path / "prompters.pth").weights.keys() == wanted.keys()
    content = sum(value.nbytes for value in found.values())
    # A view of the whole file's storage would bring all of the model along.
    assert (tmp_path / "prompters.pth").stat().st_size < content + 500 * len(found)


def test_an_export_has_no_place_for_a_trained_key_bias(model: SeViLA, tmp_path: Path) -> None:
    with torch.no_grad():
        model.vision.model.encoder.layers[0].self_attn.qkv.bias += 1
    model.save_pretrained(tmp_path / "made")
    with pytest.raises(CheckpointError, match="has a key bias; the published format has no place for it"):
        export_published(tmp_path / "made", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    ("parts", "out", "message"),
    [
        (["localiser"], "a.pth", "no part 'localiser' to export; did you mean 'localizer'"),
        (["vision"], "a.pth", "holds no vision"),
        (["localizer"], "a.bin", r"its name must end in \.pth or \.safetensors"),
    ],
)
def test_impossible_exports_are_refused(
    parts: list[str], out: str, message: str, model: SeViLA, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    with pytest.raises((CheckpointError, ConfigError), match=message):
        export_published(tmp_path / "part", tmp_path / out, parts=parts)
    assert not (tmp_path / out).exists()
