"""Features of pictures serve a model that has not made them itself, as those of the disk cache do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.models.hf.backbone import IMAGE
from lavis.models.hf.model import HFModel
from tests.vlm.families import FAMILIES, WHOLE

pytestmark = pytest.mark.vlm


@pytest.mark.parametrize("family", [*FAMILIES, *WHOLE])
@torch.inference_mode()
def test_pictures_of_several_sizes_are_asked_about_together_as_each_alone(
    family: str, folder_of: Callable[[str], Path]
) -> None:
    backbone = HFModel.from_pretrained(folder_of(family)).backbone
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((24, 40), (48, 32), (24, 40))]
    features = backbone.features(pictures)
    assert backbone.sizes_of(features) == [(24, 40), (48, 32), (24, 40)]
    prompts = [backbone.ids([IMAGE, "Who is it?"], size) for size in backbone.sizes_of(features)]
    together = backbone.logits(prompts, features)
    alone = torch.cat(
        [
            backbone.logits([prompt], backbone.features([picture]))
            for prompt, picture in zip(prompts, pictures, strict=True)
        ]
    )
    # Rows are padded to the longest: the linear attention of Qwen3.5 rounds those by a little more than 1e-5.
    assert float((together - alone).abs().max()) <= 1e-4 * float(alone.std())


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_features_of_another_process_give_the_same_logits(family: str, folder_of: Callable[[str], Path]) -> None:
    made, fresh = (HFModel.from_pretrained(folder_of(family)).backbone for _ in range(2))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    features = made.features(pictures)
    prompts = [made.ids([IMAGE, "Who is it?"], (48, 64))] * 2
    assert torch.equal(fresh.logits(prompts, features), made.logits(prompts, features))
