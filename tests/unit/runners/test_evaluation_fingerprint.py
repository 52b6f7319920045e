from pathlib import Path

import pytest
import torch

from lavis.common.config import load_yaml
from lavis.common.paths import configs_dir
from lavis.models.fingerprint import weights_digest
from lavis.models.sevila.config import read_config
from lavis.models.sevila.model import SeViLA
from lavis.runners.evaluation.results import WITHOUT_EFFECT, flattened


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return SeViLA.untrained(read_config("tiny"))


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


def test_only_settings_that_there_are_count_as_without_effect() -> None:
    defaults = load_yaml(configs_dir() / "default.yaml")
    known = set(flattened({name: defaults[name] for name in ("model", "run")}))
    assert known >= WITHOUT_EFFECT
    # A setting that comes to the defaults counts, until somebody says that it has no effect.
    assert known - WITHOUT_EFFECT == {"model.frame_num", "model.dtype", "run.seed"}
