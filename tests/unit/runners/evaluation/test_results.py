import functools
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lavis.common.config import load_yaml
from lavis.common.errors import ConfigError, UserError
from lavis.common.files import configs_dir
from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.models.fingerprint import weights_digest
from lavis.models.sevila.config import read_config
from lavis.models.sevila.model import SeViLA
from lavis.runners.config import affected_by
from lavis.runners.evaluation.evaluator import group_by_clip
from lavis.runners.evaluation.results import (
    PredictionStore,
    described,
    first_difference,
    flattened,
    read_facts,
    read_predictions,
    source_digest,
)
from lavis.selection.policies.coarse_to_fine import CoarseToFine
from lavis.selection.policies.plain import Random
from lavis.tasks.predictions import Prediction

FACTS = {"fingerprint": {"model.frame_num": 4}}
GROUPS = [("a", "c"), ("b",), ("d",)]


def said(qid: str) -> Prediction:
    return Prediction(id=qid, video="v\u00e4", choice=0)


def begun(folder: Path, *earlier: Prediction) -> PredictionStore:
    store = PredictionStore(folder)
    store.begin(earlier, FACTS)
    return store


def found_earlier(folder: Path, resume: str = "auto") -> list[str]:
    return sorted(PredictionStore(folder).read_earlier(FACTS["fingerprint"], GROUPS, resume=resume))


def test_all_processes_predictions_are_merged_in_the_annotations_order(tmp_path: Path) -> None:
    begun(tmp_path, said("d"))
    PredictionStore(tmp_path, rank=1).append([[said("a"), said("c")]])
    first = PredictionStore(tmp_path, rank=0)
    first.append([[said("b")]])
    assert [one.id for one in first.finish(["a", "b", "c", "d"])] == ["a", "b", "c", "d"]
    assert read_predictions(tmp_path) == [said(qid) for qid in "abcd"]
    assert not (tmp_path / "partial").exists()


def test_a_question_without_prediction_is_a_defect(tmp_path: Path) -> None:
    store = begun(tmp_path, said("a"))
    with pytest.raises(RuntimeError, match="1 questions were not evaluated, such as 'b'"):
        store.finish(["a", "b"])


def test_what_was_finished_is_found_again_group_by_group(tmp_path: Path) -> None:
    store = begun(tmp_path, said("b"))
    store.append([[said("a")], [said("d")]])
    assert found_earlier(tmp_path) == ["b", "d"]


def test_a_line_that_was_cut_within_a_letter_is_left_out(tmp_path: Path) -> None:
    begun(tmp_path).append([[said("b")], [said("d")]])
    file = tmp_path / "partial" / "rank0.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex("ä".encode()) + 1])
    assert found_earlier(tmp_path) == ["b"]


def test_a_kill_after_a_restart_loses_nothing(tmp_path: Path) -> None:
    begun(tmp_path).append([[said("b")]])
    earlier = PredictionStore(tmp_path).read_earlier(FACTS["fingerprint"], GROUPS, resume="auto")
    begun(tmp_path, *earlier.values()).append([[said("d")]])
    assert found_earlier(tmp_path) == ["b", "d"]


def test_starting_over_forgets_what_was_there(tmp_path: Path) -> None:
    begun(tmp_path).append([[said("b")]])
    assert found_earlier(tmp_path, resume="never") == []
    begun(tmp_path)
    assert found_earlier(tmp_path) == []


def test_figures_of_before_do_not_outlive_their_predictions(tmp_path: Path) -> None:
    for name in ("predictions.jsonl", "metrics.json", "cost.json", "report.md", "submission.jsonl", "mine.txt"):
        (tmp_path / name).touch()
    begun(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "mine.txt", "partial"]


def test_another_fingerprint_is_refused_with_what_differs(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match=r"predictions made with model\.frame_num 4, now 8; name another"):
        PredictionStore(tmp_path).read_earlier({"model.frame_num": 8}, GROUPS, resume="auto")


def test_an_empty_folder_holds_no_evaluation(tmp_path: Path) -> None:
    assert found_earlier(tmp_path) == []
    with pytest.raises(UserError, match=r"holds no evaluation: evaluation\.json is missing or damaged"):
        read_facts(tmp_path)
    with pytest.raises(UserError, match=r"holds no predictions\.jsonl; evaluate to the end first"):
        read_predictions(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"fingerprint": 3})])
def test_damaged_facts_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(UserError, match=r"evaluation\.json is"):
        read_facts(tmp_path)


@pytest.mark.parametrize(
    ("earlier", "now", "difference"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b 2, now 3"),
        ({"a": 1}, {"a": 1, "b": "x"}, "b None, now 'x'"),
        ({"weights": "0" * 64}, {"weights": "1" * 64}, "other weights"),
    ],
)
def test_the_first_difference_is_named(earlier: dict, now: dict, difference: str | None) -> None:
    assert first_difference(earlier, now) == difference


def test_questions_about_the_same_frames_are_one_group() -> None:
    def row(qid: str, video: str, clip: Span | None = None, source: str | None = None) -> Annotation:
        return Annotation(Question("q", id=qid, video=video, clip=clip), source=source)

    rows = [row("1", "v"), row("2", "w"), row("3", "v"), row("4", "v", Span(0, 1)), row("5", "v", source="tvqa")]
    rows += [row("6", "v", Span(0, 1)), row("7", "w")]
    assert [group.ids for group in group_by_clip(rows)] == [("1", "3"), ("2", "7"), ("4", "6"), ("5",)]
    assert [group.indices for group in group_by_clip(rows)] == [(0, 2), (1, 6), (3, 5), (4,)]


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


def test_predictions_depend_on_a_setting_unless_it_says_that_they_do_not() -> None:
    defaults = load_yaml(configs_dir() / "default.yaml")
    known = set(flattened({name: defaults[name] for name in ("model", "run")}))
    assert {key for key in known if affected_by(key) == "predictions"} == {
        "model.frame_num",
        "model.token_budget",
        "model.dtype",
        "run.seed",
    }


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
