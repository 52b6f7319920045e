"""What columns and answers of people's own files mean."""

from pathlib import Path
from typing import Any

import pytest

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record
from sevila_data.own_rows import answer_index, own_row, readings, require_columns, ways_of

COLOURS = ["red", "blue", "green"]


def row(**fields: Any) -> Record:
    return Record(fields, Path("q.csv"), 2)


def answers(*values: Any, options: list | None = None, **columns: Any) -> list[int | None]:
    """The answers of a file whose rows all have these options."""
    given = columns or {"options": options or COLOURS}
    rows = [own_row(row(question="Who?", **given, answer=value)) for value in values]
    ways = ways_of(rows)
    return [answer_index(each, ways) for each in rows]


@pytest.mark.parametrize(
    "names",
    [
        ("video", "question", "a0", "a1", "answer", "qid"),
        ("Video", "Question", "Option A", "Option B", "Answer", "ID"),
        ("VIDEO_ID", "question text", "option_a", "option_b", "Correct Answer", "question_id"),
        ("vid", "Q", "A", "B", "correct", "id"),
        ("file name", "question", "choice1", "choice2", "label", "Question ID"),
        (" video", "question ", "Option 0", "option-1", "answer_idx", "qid"),
        ("video", "question", "opt0", "opt1", "answer", "qid"),
        ("video", "question", "0", "1", "answer", "qid"),
        ("video", "question", "a", "b", "answer", "qid"),
    ],
)
def test_columns_are_known_by_the_names_that_people_give_them(names: tuple[str, ...]) -> None:
    found = own_row(Record(dict(zip(names, ("v", "Who?", "red", "blue", "(B)", 7.0), strict=True)), Path("q.csv"), 2))
    assert (found.record.name("video"), found.record.text("question")) == ("v", "Who?")
    assert (found.options, found.record.id("qid")) == (("red", "blue"), "7")
    assert answer_index(found, frozenset()) == 1


def test_the_schema_s_own_name_goes_before_others_and_the_rest_is_ignored() -> None:
    found = own_row(row(id=1, qid="x", vid="other", video="v", question="Q?", rating=3, q="no"))
    assert found.record.fields == {"qid": "x", "video": "v", "question": "Q?"}


def test_errors_name_the_file_s_own_column() -> None:
    with pytest.raises(AnnotationError, match=r"^q\.csv, line 2, field 'Question ID': \[1\] is not text; put it in"):
        own_row(Record({"Question ID": [1]}, Path("q.csv"), 2)).record.id("qid")


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"options": '["red", "blue"]'}, ("red", "blue")),
        ({"options": "['red', 'it\\'s']"}, ("red", "it's")),
        ({"options": "['red' \"it's\"\n 'a, b']"}, ("red", "it's", "a, b")),
        ({"choices": ["red", 2, 1.5]}, ("red", "2", "1.5")),
        ({"options": {"A": "red", "B": "blue"}}, ("red", "blue")),
        ({"options": {"1": "red", "2": "blue"}}, ("red", "blue")),
        ({"a0": "red", "a1": "blue", "a2": "", "a3": None}, ("red", "blue")),
        ({"a0": "red", "a1": "blue", "a2": float("nan")}, ("red", "blue")),
        ({"Option A": "red", "Option C": "green", "option b": "blue"}, ("red", "blue", "green")),
        ({"options": ["red", "blue"], "a0": "red", "a1": "blue"}, ("red", "blue")),
        ({"a0": "alone"}, ("alone",)),
        ({"B": "no option", "ending0": "nor this"}, ()),
        ({"question": "open"}, ()),
    ],
)
def test_options_are_columns_or_a_list(fields: dict, options: tuple) -> None:
    assert own_row(row(**fields)).options == options


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"a0": "x", "a1": "", "a2": "z"}, ", line 2, field 'a1': is blank, and options after it are not; give its te"),
        ({"a0": "x", "a2": "z"}, " leaves an option out between its columns 'a0', 'a2'"),
        ({"a0": "x", "a1": "y", "A": "x", "B": "y"}, " gives options twice: from 'a0' and from 'A' on; keep one of"),
        (
            {"options": ["x", "y"], "a0": "x", "a1": "z"},
            ", line 2, field 'options': differs from the columns 'a0', 'a1'",
        ),
        ({"options": "red|blue"}, ", line 2, field 'options': 'red|blue' is not a list of texts such as"),
        ({"options": {"A": "red", "no": 3}}, ", line 2, field 'options': {'A': 'red', 'no': 3} is not a list of te"),
        ({"anwser": "A"}, " has a column 'anwser' of no known meaning; rename it 'answer' if it is that, or leave it"),
    ],
)
def test_columns_that_mean_two_things_or_none_are_named(fields: dict, problem: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        own_row(row(**fields))
    assert str(raised.value).startswith(f"q.csv{problem}")


@pytest.mark.parametrize(
    "value",
    [1, 1.0, "1", "1.0", " 1 ", "(1)", "B", "b", "B.", "(B)", "[b]", "b)", "B:", "Option B", "option b", "blue",
     " Blue", "B. blue", "(B) blue", "b) Blue", "Option B: blue"],
)  # fmt: skip
def test_an_answer_is_an_index_a_letter_or_a_text(value: Any) -> None:
    assert answers(value) == [1]


def test_an_answer_may_be_the_name_of_its_column() -> None:
    assert answers("a1", "A2", a0="x", a1="y", a2="z") == [1, 2]
    assert answers("choice2", "Choice 1", choice1="x", choice2="y") == [1, 0]


@pytest.mark.parametrize("value", ["", " ", None, float("nan"), "NaN", "None", "n/a", "null"])
def test_an_empty_answer_is_none(value: Any) -> None:
    assert answers(value) == [None]


def test_a_word_for_no_answer_may_be_an_option() -> None:
    assert answers("None", options=["some", "none", "all"]) == [1]


@pytest.mark.parametrize("value", ["D", "-1", "5", "purple", "B. red", 7, 1.5, True, "A B"])
def test_an_answer_that_is_no_option_is_named(value: Any) -> None:
    with pytest.raises(
        AnnotationError, match=r"^q\.csv, line 2, field 'answer': .* is none of the options; give an ind"
    ):
        answers(value)


COUNTS = ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # The other row is surely a text, so both are.
        ([(COUNTS, "2"), (COLOURS, "red")], [1, 0]),
        # The other row is surely a number, so both are.
        ([(COUNTS, "2"), (COLOURS, "0")], [2, 0]),
        ([(COUNTS, "2.0"), (COLOURS, "1.0")], [2, 1]),
        # A number of JSON is no text.
        ([(COUNTS, 2)], [2]),
        (([(["B", "A", "C"], "A"), (COLOURS, "c")]), [0, 2]),
        (([(["B", "A", "C"], "A"), (COLOURS, "green")]), [1, 2]),
        ([(["B", "A", "C"], "(A)")], [0]),
        # Both readings are the same option.
        ([(["0", "1", "2"], "1")], [1]),
        ([(["A", "B"], "b")], [1]),
    ],
)
def test_other_rows_tell_what_an_answer_means_that_may_mean_two(rows: list, expected: list[int]) -> None:
    own = [own_row(row(question="?", options=options, answer=answer)) for options, answer in rows]
    ways = ways_of(own)
    assert [answer_index(each, ways) for each in own] == expected


@pytest.mark.parametrize(
    "rows",
    [
        [(COUNTS, "2"), (COUNTS, "3")],
        [(COUNTS, "2"), (COLOURS, "0"), (COLOURS, "red")],
        [(["B", "A", "C"], "A")],
        [(["red", "red", "blue"], "red")],
    ],
)
def test_an_answer_that_no_other_row_decides_is_refused(rows: list) -> None:
    own = [own_row(row(question="?", options=options, answer=answer)) for options, answer in rows]
    with pytest.raises(AnnotationError, match=r"may mean several options: .*; no other row tells, so write the letter"):
        answer_index(own[0], ways_of(own))


def test_beside_columns_numbered_from_1_numbers_count_as_other_rows_show() -> None:
    columns = {"choice1": "x", "choice2": "y", "choice3": "z"}
    assert answers("1", "2", "3", **columns) == [0, 1, 2]
    assert answers("0", "1", "2", **columns) == [0, 1, 2]
    assert answers("B", "z", **columns) == [1, 2]
    with pytest.raises(
        AnnotationError, match="'1' may mean several options: 'y' by its number from 0 or 'x' by its nu"
    ):
        answers("1", "2", **columns)


def test_numbers_that_can_only_count_from_1_are_refused_as_a_whole() -> None:
    with pytest.raises(
        AnnotationError, match=r"'3' is the number of options, and no answer is 0: do answers count from"
    ):
        answers("1", "3", "2")
    # With a 0 among them it is one wrong row.
    with pytest.raises(AnnotationError, match="'3' is none of the options"):
        answers("0", "3", "2")


def test_what_an_answer_may_mean_is_told_by_way() -> None:
    assert readings(own_row(row(options=COUNTS, answer="2"))) == {"its text": {1}, "its number from 0": {2}}
    assert readings(own_row(row(options=COLOURS))) == {}


def test_a_file_without_a_needed_column_is_told_what_it_has_and_what_was_looked_for() -> None:
    rows = [own_row(row(**{"Clip": "a", "prompt": "Who?", "a0": "x", "a1": "y"}))]
    with pytest.raises(AnnotationError) as raised:
        require_columns(Path("q.csv"), rows, "question", "query")
    assert str(raised.value) == (
        "q.csv has no column for question or query: it has 'Clip', 'prompt', 'a0', 'a1'; "
        "looked for 'question', 'questiontext', 'q', 'query'"
    )
    require_columns(Path("q.csv"), rows, "options", "query")
