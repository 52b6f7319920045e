"""What selectors that are compared share, and what each is charged for; scorer and Answerer are stand-ins."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.common.files import configs_dir
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScores, Mask, Reading
from lavis.models.frames import FrameSource, FrameView
from lavis.runners.config import load_evaluation_config
from lavis.runners.evaluation.comparison import (
    NamedSelector,
    Notes,
    Shared,
    _AskedOnce,
    _SharedScorer,
    _SharedSelector,
    comparison_of,
)
from lavis.selection.policies.coarse_to_fine import CoarseToFine
from lavis.selection.policies.plain import TopK, Uniform

QUESTIONS = [Question(f"what is {name}", ("x", "y"), id=name, video="v") for name in "ab"]


def source(count: int = 12) -> FrameSource:
    return FrameSource(np.arange(count), np.arange(count) / 2)


class Scorer:
    """Scores a frame by its position; notes which frames it was asked about, and says that it looked at them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def fingerprint(self) -> str:
        return "by position"

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        where = np.ones((len(questions), len(frames)), dtype=bool) if where is None else where
        self.asked += [(questions[row].id, int(frame)) for row, frame in np.argwhere(where)]
        frames.was_decoded |= where.any(axis=0)
        scores = np.where(where, np.arange(len(frames), dtype=float), np.nan)
        return FrameScores(scores, scores - 5, (Unread(),) * len(questions))


class Answerer:
    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        del frames
        self.asked += [(one.id, tuple(row.tolist())) for one, row in zip(questions, positions, strict=True)]
        return [
            Reading(int(row[0]) % 2, "x", np.array([0.25, float(row[0])]), row % 2, Unread(unspelt=("é",)))
            for row in positions
        ]


def begun(folder: Path, *, fingerprint: dict[str, Any] | None = None) -> Notes:
    notes = Notes(folder, rank=0)
    notes.read(fingerprint or {"model": "m"}, resume="auto")
    notes.begin(fingerprint or {"model": "m"}, resume="auto")
    return notes


def selector(policy: Any, scorer: Scorer | None, shared: Shared, name: str = "one/k2") -> _SharedSelector:
    return _SharedSelector(policy, None if scorer is None else _SharedScorer(scorer, shared), name=name, shared=shared)


def test_a_frame_is_scored_once_for_a_question_whichever_selectors_ask(tmp_path: Path) -> None:
    shared, frames = Shared(begun(tmp_path)), source()
    shared.begin("sha")
    first, second = Scorer(), Scorer()  # built alike, so they are one
    searching = selector(CoarseToFine(gap=4), first, shared)
    some, costs = searching.charged(frames, QUESTIONS, k=2)
    assert 0 < len(first.asked) < 24
    found, _ = selector(TopK(), second, shared).charged(frames, QUESTIONS, k=2)
    assert [one.positions.tolist() for one in found] == [[10, 11], [10, 11]]
    assert sorted(first.asked + second.asked) == [(name, frame) for name in "ab" for frame in range(12)]
    again, charged = selector(CoarseToFine(gap=4), second, shared).charged(frames, QUESTIONS, k=2)
    assert len(first.asked) + len(second.asked) == 24
    for one, other in zip(some, again, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    # The second one has computed nothing, and is charged the same work.
    assert [replace(cost, seconds=0) for cost in charged] == [replace(cost, seconds=0) for cost in costs]
    assert charged[0].seconds > 0
    shared.begin("other clip")
    selector(TopK(), second, shared).charged(frames, QUESTIONS, k=2)
    assert len(first.asked) + len(second.asked) == 48


def test_a_selector_is_charged_for_what_it_looks_at_alone(tmp_path: Path) -> None:
    notes = begun(tmp_path)
    shared = Shared(notes)
    shared.begin("sha")
    frames = source()
    selector(TopK(), Scorer(), shared, "localizer/k2").select(frames, QUESTIONS, k=2)
    selector(Uniform(), None, shared, "uniform/k2").select(frames, QUESTIONS, k=2)
    top, even = notes.costs("localizer/k2")["b"], notes.costs("uniform/k2")["b"]
    assert (top.frames_looked_at, top.frames_scored, top.scorer_calls, top.together) == (12, 12, 1, 2)
    assert (even.frames_looked_at, even.frames_scored, even.scorer_calls, even.together) == (0, 0, 0, 2)
    assert top.seconds > 0


def test_the_answerer_is_not_asked_twice_about_the_same_frames_of_a_question(tmp_path: Path) -> None:
    notes, answerer, frames = begun(tmp_path), Answerer(), source()
    shared = Shared(notes)
    shared.begin("sha")
    once = _AskedOnce(answerer, shared)
    first = once.answer(frames, np.array([[1, 2], [1, 2]]), QUESTIONS)
    second = once.answer(frames, np.array([[1, 2], [1, 3]]), QUESTIONS)
    assert answerer.asked == [("a", (1, 2)), ("b", (1, 2)), ("b", (1, 3))]
    assert second[0] is first[0]
    notes.close()

    # Another start finds them on disk; a row that was cut short, or changed, is asked again.
    file = tmp_path / "shared" / "rank0.jsonl"
    rows = file.read_text().splitlines()
    rows[1] = rows[1].replace('"index": 1', '"index": 0')
    file.write_text("\n".join([*rows[:2], rows[2][:-5]]))
    later, asked = Shared(begun(tmp_path)), Answerer()
    later.begin("sha")
    found = _AskedOnce(asked, later).answer(frames, np.array([[1, 2], [1, 2]]), QUESTIONS)
    assert asked.asked == [("b", (1, 2))]
    assert (found[0].index, found[0].option_scores.tolist(), found[0].unread) == (
        1,
        [0.25, 1.0],
        Unread(unspelt=("é",)),
    )
    assert found[0].frame_choices.tolist() == [1, 0]
    # Nor does a reading count that is of another video by the same name.
    later.begin("another sha")
    _AskedOnce(asked, later).answer(frames, np.array([[1, 2]]), QUESTIONS[:1])
    assert asked.asked[1:] == [("a", (1, 2))]
    later.notes.close()


class SizedAnswerer(Answerer):
    reads_sizes = True

    def answer(
        self,
        frames: FrameSource,
        positions: Integers,
        questions: Sequence[Question],
        *,
        sizes: Floats | None = None,
    ) -> list[Reading]:
        self.sizes = sizes
        return super().answer(frames, positions, questions)


def test_frames_read_at_other_sizes_are_other_frames(tmp_path: Path) -> None:
    answerer, frames = SizedAnswerer(), source()
    shared = Shared(begun(tmp_path))
    shared.begin("sha")
    once = _AskedOnce(answerer, shared)
    assert once.reads_sizes is True  # type: ignore[attr-defined]
    assert not hasattr(_AskedOnce(Answerer(), shared), "reads_sizes")
    once.answer(frames, np.array([[1, 2]]), QUESTIONS[:1])
    assert answerer.sizes is None
    for _ in range(2):
        once.answer(frames, np.array([[1, 2]]), QUESTIONS[:1], sizes=np.array([[1.0, 0.5]]))
    assert answerer.asked == [("a", (1, 2))] * 2
    assert answerer.sizes is not None
    shared.notes.close()
    later = Shared(begun(tmp_path))
    later.begin("sha")
    _AskedOnce(answerer, later).answer(frames, np.array([[1, 2]]), QUESTIONS[:1], sizes=np.array([[1.0, 0.5]]))
    assert len(answerer.asked) == 2


def test_readings_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match=r"holds a comparison made with model 'm', now 'n'; name another --out"):
        begun(tmp_path, fingerprint={"model": "n"})
    (tmp_path / "shared" / "shared.json").write_text("{")
    with pytest.raises(ConfigError, match=r"shared\.json is damaged; start over with run\.resume=never"):
        begun(tmp_path)


def test_a_view_counts_what_is_asked_of_it() -> None:
    view = FrameView(source(), paces={})
    view.was_decoded[3] = True
    assert not source().was_decoded.any()
    assert view.frame_idx.tolist() == list(range(12))


def compared(selectors: Any, k: Any = (4,)) -> tuple[list[NamedSelector], tuple[int, ...]]:
    recipe = {
        "datasets": {"nextqa": {"prompt": "multiple_choice"}},
        "comparison": {"selectors": selectors, "k": list(k)},
    }
    return comparison_of(load_evaluation_config(recipe, further_sections=("comparison",)))


def test_selectors_are_named_by_what_they_are_or_as_they_are_told() -> None:
    by_motion = {"scorer": "motion", "policy": "aks"}
    found, counts = compared(["localizer", by_motion, {**by_motion, "label": "my/own"}], [1, 2])
    assert [(one.label, one.folder, one.spec) for one in found] == [
        ("localizer", "localizer", "localizer"),
        ("aks by motion", "aks_by_motion", by_motion),
        ("my/own", "my_own", by_motion),
        ("uniform", "uniform", "uniform"),
    ]
    assert counts == (1, 2)
    found, _ = compared({"even": "uniform", "eight": {"policy": "top_k", "k": 8}})
    assert [(one.label, one.own_k) for one in found] == [("even", None), ("eight", 8)]


@pytest.mark.parametrize(
    ("selectors", "k", "message"),
    [
        (None, [4], "no selectors to compare; give --selectors NAME"),
        ([], [4], "no selectors to compare"),
        (["aks", "aks"], [4], "two selectors are called 'aks'; give one another name"),
        ([{"policy": "aks", "label": "a b"}, {"policy": "bolt", "label": "a/b"}], [4], "would lie in the folder 'a_b'"),
        (["lokalizer"], [4], "selector 'lokalizer': unknown frame selector 'lokalizer'; did you mean 'localizer'?"),
        ({"x": {"policy": {"name": "aks", "deep": 3}}}, [4], "selector 'x': "),
        (["aks"], [4, 4], r"comparison.k is \[4, 4\]; give numbers of frames, each once"),
        (["aks"], [0], "comparison.k"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(selectors: Any, k: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compared(selectors, k)


def test_rows_are_json_of_one_line(tmp_path: Path) -> None:
    notes = begun(tmp_path)
    notes.add_reading(
        "sha", QUESTIONS[0], np.array([1]), Answerer().answer(source(), np.array([[1]]), QUESTIONS[:1])[0]
    )
    notes.close()
    (line,) = (tmp_path / "shared" / "rank0.jsonl").read_text().splitlines()
    assert json.loads(line)["positions"] == [1]


def test_the_default_settings_compare_nothing() -> None:
    path = configs_dir() / "sevila" / "inference" / "nextqa.yaml"
    with pytest.raises(ConfigError, match="no selectors to compare"):
        comparison_of(load_evaluation_config(path, further_sections=("comparison",)))
