"""With the guard, torchvision, timm and transformers live beside the torch that is installed."""

import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.timm


def test_guard_declares_operators_only_where_torchvision_cannot_bring_its_own() -> None:
    from torchvision import extension

    from tests.torchvision_guard import declared

    assert (declared is None) is extension._has_ops()


def test_the_operators_that_torchvision_looks_for_are_there() -> None:
    import torchvision  # noqa: F401

    from tests.torchvision_guard import MISSING_SCHEMAS, declared

    # An older torchvision that loads its own library has and wants one of them only.
    wanted = [schema.partition("(")[0] for schema in MISSING_SCHEMAS] if declared else ["nms"]
    assert [name for name in wanted if not hasattr(torch.ops.torchvision, name)] == []


def test_timm_computes_beside_this_torch() -> None:
    import timm

    tower = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).eval()
    assert tower.forward_features(torch.zeros(2, 3, 32, 32)).shape == (2, 5, 192)


def test_transformers_still_gives_its_models() -> None:
    from transformers import Blip2QFormerModel, Blip2VisionModel, T5ForConditionalGeneration

    assert [model.__name__ for model in (Blip2QFormerModel, Blip2VisionModel, T5ForConditionalGeneration)] == [
        "Blip2QFormerModel",
        "Blip2VisionModel",
        "T5ForConditionalGeneration",
    ]


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("from transformers import SmolVLMImageProcessor; assert SmolVLMImageProcessor()", True),
        ("import torchvision.ops", True),
        ("import lavis.cli.main", False),
    ],
)
def test_a_process_that_a_test_starts_is_guarded_too_once_it_looks_for_torchvision(code: str, loaded: bool) -> None:
    code += "; import sys; print('torch' in sys.modules, 'torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{loaded} {loaded}\n"
