import json
from pathlib import Path

import pytest

from lavis.common.errors import ConfigError, UserError
from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.runners.evaluation.evaluator import group_by_clip
from lavis.runners.evaluation.results import PredictionStore, first_difference, read_facts, read_predictions
from lavis.tasks.evaluation.predictions import Prediction

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
    for name in ("predictions.jsonl", "metrics.json", "report.md", "submission.jsonl", "mine.txt"):
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
