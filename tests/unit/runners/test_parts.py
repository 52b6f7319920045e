import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lavis.runners.evaluation.results import described, flattened, source_digest
from lavis.selection.coarse_to_fine import CoarseToFine
from lavis.selection.policies import Random

_OWN_SELECTOR = """
class Mine:
    def select(self, tokens, times_s, questions, *, num_keyframes):
        return {chosen}
"""


class Slotted:
    __slots__ = ("near",)

    def __init__(self, near: float) -> None:
        self.near = near


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, chosen: str) -> ModuleType:
    (folder / "own_selector.py").write_text(_OWN_SELECTOR.format(chosen=chosen))
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("own_selector", None)
    importlib.invalidate_caches()
    return importlib.import_module("own_selector")


def _of(gap: int) -> CoarseToFine:
    return CoarseToFine(gap=gap)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_of(8), _of(4)),
        (Random(seed=0), Random(seed=1)),
        (functools.partial(Random, seed=0), functools.partial(Random, seed=1)),
        (Slotted(0.1), Slotted(0.2)),
        ([Random()], [Random(seed=5)]),
        ({"a": np.zeros(3)}, {"a": np.array([0.0, 0.0, 1.0])}),
        (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        (torch.float32, torch.bfloat16),
        (Random, CoarseToFine),
        (lambda x, k=1: x, lambda x, k=2: x),
    ],
)
def test_settings_of_any_kind_are_told_apart(one: Any, other: Any) -> None:
    assert described(one) == described(one)
    assert described(one) != described(other)


def test_a_part_is_described_by_names_that_tell_what_differs() -> None:
    assert flattened({"selector": described(_of(4))})["selector._gap"] == 4


def test_what_a_part_holds_twice_or_in_a_circle_is_no_problem() -> None:
    part = Random()
    part.outer = {"again": part}  # type: ignore[attr-defined]
    assert described(part)["outer"] == {"again": None}


def test_the_code_of_a_part_from_elsewhere_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = described(written(tmp_path, monkeypatch, "0").Mine())
    again = described(written(tmp_path, monkeypatch, "0").Mine())
    changed = described(written(tmp_path, monkeypatch, "1").Mine())
    assert first == again != changed


def test_the_source_of_a_package_has_a_digest() -> None:
    whole = source_digest("lavis.processors")
    assert len(whole) == 64
    assert source_digest("lavis.processors") == whole != source_digest("lavis.processors.prompts")
