"""Features of pictures serve a model that has not made them itself, as those of the disk cache do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.models.hf.backbone import IMAGE
from lavis.models.hf.model import HFModel
from tests.vlm.families import FAMILIES

pytestmark = pytest.mark.vlm


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_features_of_another_process_give_the_same_logits(family: str, folder_of: Callable[[str], Path]) -> None:
    made, fresh = (HFModel.from_pretrained(folder_of(family)).backbone for _ in range(2))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    features = made.features(pictures)
    prompts = [made.ids([IMAGE, "Who is it?"], (48, 64))] * 2
    assert torch.equal(fresh.logits(prompts, features), made.logits(prompts, features))
