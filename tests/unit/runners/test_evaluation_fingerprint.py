from pathlib import Path

import pytest
import torch

from lavis.models.sevila.build import build_untrained
from lavis.models.sevila.config import read_size
from lavis.models.sevila.model import SeViLA
from lavis.runners.evaluation.fingerprint import weights_digest


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return build_untrained(read_size("tiny"))


def test_the_same_weights_have_the_same_digest_wherever_they_come_from(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert weights_digest(SeViLA.from_pretrained(tmp_path)) == weights_digest(model)


@torch.no_grad()
def test_the_smallest_change_of_one_weight_shows(model: SeViLA) -> None:
    before = weights_digest(model)
    weight = model.answerer.proj.weight
    old = weight[3, 5].clone()
    weight[3, 5] = torch.nextafter(old, old + 1)
    changed = weights_digest(model)
    weight[3, 5] = old
    assert changed != before
    assert weights_digest(model) == before


def test_another_precision_is_another_digest(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert weights_digest(SeViLA.from_pretrained(tmp_path, dtype="bf16")) != weights_digest(model)
