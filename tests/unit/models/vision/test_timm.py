import sys
from pathlib import Path

import pytest
import torch

from lavis.common.errors import ConfigError, MissingExtraError, UserError
from lavis.models.sevila.model import JointPacking, SeViLA
from lavis.models.vision.timm import TimmVisionTower
from tests.unit.models.tiny import encoded, with_vision


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        MissingExtraError, match=r"^timm is not installed; install it with: pip install 'sevila\[timm\]'"
    ):
        SeViLA.from_config(with_vision(name="timm:vit_tiny_patch16_224", args={}))


@pytest.mark.parametrize(
    "failure",
    [
        'RuntimeError("operator torchvision::nms does not exist")',
        "AttributeError(\"partially initialized module 'torchvision' has no attribute 'extension'\")",
    ],
)
def test_a_torchvision_that_does_not_fit_torch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    (tmp_path / "timm.py").write_text(f"raise {failure}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(
        UserError, match=r"^the installed torchvision does not fit torch \S+ \(.*torchvision.*\); "
    ) as caught:
        TimmVisionTower(model_name="vit_tiny_patch16_224")
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.timm
@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_a_model_with_a_timm_transformer_answers(name: str) -> None:
    model = SeViLA.untrained(with_vision(name=f"timm:{name}", image_size=28 * 2, args={}))
    pixels = torch.randn(3, 3, 56, 56)
    features = model.features(pixels)
    assert features.shape == (3, (56 // model.vision.model.patch_embed.patch_size[0]) ** 2 + 1, 192)
    assert model.image_size == model.vision.image_size == 56
    tokens = encoded(model, pixels)
    answer = model.answer(tokens["answerer"][None], ["Is it red?"], num_options=3, packing=JointPacking())
    assert torch.isfinite(answer.logits).all()
    assert torch.isfinite(model.score_frames(tokens["localizer"][None], ["Is it red?"]).yes).all()
    assert not any(value.requires_grad for value in model.parameters())


@pytest.mark.timm
def test_timm_weights_are_the_same_for_the_same_seed() -> None:
    config = with_vision(name="timm:vit_tiny_patch16_224", image_size=32, args={})
    first, second = SeViLA.untrained(config).state_dict(), SeViLA.untrained(config).state_dict()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.timm
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_towers_that_make_no_sequence_of_tokens_are_refused(name: str) -> None:
    message = (
        f"timm model {name!r} does not make tokens of images of 64 pixels; "
        "give a plain vision transformer, such as timm:vit_base_patch16_clip_224"
    )
    with pytest.raises(ConfigError) as caught:
        SeViLA.from_config(with_vision(name=f"timm:{name}", image_size=64, args={}))
    assert str(caught.value) == message


@pytest.mark.timm
@pytest.mark.parametrize("name", ["vit_tiny_patch16_225", ""])
def test_unknown_timm_models_are_refused_in_one_short_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^unknown timm model '{name}'; .*") as caught:
        TimmVisionTower(model_name=name, image_size=32)
    assert len(str(caught.value)) < 300


@pytest.mark.timm
def test_a_saved_model_with_a_timm_tower_is_loaded_again(tmp_path: Path) -> None:
    model = SeViLA.untrained(with_vision(name="timm:vit_tiny_patch16_224", image_size=32, args={}))
    model.save_pretrained(tmp_path / "model")
    again = SeViLA.from_pretrained(tmp_path / "model").state_dict()
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, again[name])] == []
