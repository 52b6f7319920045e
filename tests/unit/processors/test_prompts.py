import json
from pathlib import Path
from typing import Any

import pytest

from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.datasets.annotations import parse_row
from lavis.datasets.records import Record
from lavis.processors.prompts import OPTION_LETTERS, option_list, option_target

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "golden" / "prompts.json").read_text(encoding="utf-8")
)
PROMPTS = {"vlep": "next_event", "qvh": "moment"}
CASES = [pytest.param(name, case, id=case["row"]["qid"]) for name, cases in GOLDEN.items() for case in cases]


def question_of(row: dict[str, Any]) -> Question:
    return parse_row(Record(row, Path("rows.json"), 1)).question


@pytest.mark.parametrize(("dataset", "case"), CASES)
@pytest.mark.parametrize("role", ["localizer", "answerer"])
def test_prompts_equal_the_published_ones_character_by_character(dataset: str, case: dict[str, Any], role: str) -> None:
    prompt = registry.prompts.get(PROMPTS.get(dataset, "multiple_choice"))()
    assert getattr(prompt, role)(question_of(case["row"])) == case[role]


@pytest.mark.parametrize(("dataset", "case"), [case for case in CASES if "target" in case.values[1]])
def test_targets_equal_the_published_ones(dataset: str, case: dict[str, Any]) -> None:
    answer = question_of(case["row"]).answer
    assert answer is not None
    assert option_target(answer) == case["target"]


@pytest.mark.parametrize("text", ["", "anything at all"])
def test_the_next_event_is_asked_for_in_the_same_words_whatever_the_row_says(text: str) -> None:
    prompt = registry.prompts.get("next_event")()
    question = Question(text, ("It rains.", "The sun shines."))
    assert prompt.answerer(question) == (
        "Upon observing the provided frames, what is the most probable subsequent event? "
        "Option A: It rains. Option B: The sun shines."
    )


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("A dog runs", "A dog runs."),
        ("A dog runs.", "A dog runs."),
        ("A dog runs?", "A dog runs?."),
        ("A dog runs...", "A dog runs..."),
    ],
)
def test_a_moment_query_gets_a_full_stop_unless_it_ends_in_one(query: str, sentence: str) -> None:
    asked = registry.prompts.get("moment")().localizer(Question(query))
    assert asked.startswith(f"Question: {sentence} Option A: yes. Option B: no. Does the information")


def test_an_open_question_is_asked_without_options() -> None:
    prompt = registry.prompts.get("multiple_choice")()
    question = Question("Why does it rain?")
    assert prompt.answerer(question) == "Question: Why does it rain? Short answer:"
    assert prompt.localizer(question) == (
        "Question: Why does it rain? Does the information within the frame provide the necessary details to "
        "accurately answer the given question?"
    )


def test_the_next_event_can_be_asked_for_openly() -> None:
    prompt = registry.prompts.get("next_event")()
    event = "Upon observing the provided frames, what is the most probable subsequent event?"
    assert prompt.answerer(Question("")) == event
    assert prompt.localizer(Question("")) == (
        f"{event} Does the information within the frame provide the necessary details to predict next event?"
    )


def test_all_letters_can_be_options() -> None:
    worded = option_list(tuple(f"text {number}" for number in range(26)))
    assert worded.startswith("Option A: text 0 Option B: text 1 ")
    assert worded.endswith(" Option Z: text 25")
    assert [option_target(number) for number in range(26)] == [f"Option {letter}" for letter in OPTION_LETTERS]
