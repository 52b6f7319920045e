import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavis.common.errors import AnnotationError
from lavis.common.types import Question, Span, Subtitle
from lavis.datasets.annotations import FIELDS, Annotation, parse_row, question_type, read_annotations, write_annotations
from lavis.datasets.records import Record
from tests.timing import cpu_seconds_at_most

CHOICE = {
    "video": "1100/401",
    "qid": "CW_401_0",
    "question": "why?",
    "num_option": 2,
    "a0": "x.",
    "a1": "y.",
    "answer": 1,
}
QUERY = {"video": "v_60.0_210.0", "qid": "QVHighlight_7", "query": "a boat", "duration": 150}


def parsed(row: dict) -> Annotation:
    return parse_row(Record(row, Path("val.json"), 3, "row"))


def without(row: dict, *names: str) -> dict:
    return {name: value for name, value in row.items() if name not in names}


def test_a_multiple_choice_row_becomes_a_question() -> None:
    question = Question("why?", ("x.", "y."), id="CW_401_0", answer=1, kind="CW", video="1100/401")
    assert parsed(CHOICE) == Annotation(question)


def test_a_moment_row_becomes_a_question_with_windows_and_saliency() -> None:
    row = {
        **QUERY,
        "relevant_windows": [[2, 6]],
        "relevant_clip_ids": [1, 2],
        "saliency_scores": [[1, 2, 3], [4, 4, 4]],
    }
    question = Question(
        "a boat", id="QVHighlight_7", kind="QVHighlight", video="v_60.0_210.0", windows=(Span(2.0, 6.0),)
    )
    assert parsed(row) == Annotation(question, duration_s=150.0, saliency={1: (1, 2, 3), 2: (4, 4, 4)})


@pytest.mark.parametrize("times", [{"start": 3.7, "end": 11}, {"start": "3.7", "end": "11"}])
def test_times_may_be_numbers_or_text(times: dict) -> None:
    assert parsed({**CHOICE, **times}).question.clip == Span(3.7, 11.0)


@pytest.mark.parametrize("times", [{"start": "nan", "end": "nan"}, {"start": float("nan"), "end": 4}])
def test_nan_times_mean_the_whole_video_and_are_marked(times: dict) -> None:
    annotation = parsed({**CHOICE, **times})
    assert (annotation.question.clip, annotation.untimed) == (None, True)


def test_grounding_windows_stand_beside_options() -> None:
    assert parsed({**CHOICE, "windows": [[0, 2.5], [4, 5]]}).question.windows == (Span(0.0, 2.5), Span(4.0, 5.0))


@pytest.mark.parametrize(
    ("video", "found_as"),
    [
        ("show_s00_ep", "show_s00"),
        ("yt:00:01:10-00:01:20", "yt:00:01:10-00:01:20"),
        ("yt_00:05:00_ep", "yt_00:05:00_ep"),
    ],
)
def test_a_published_vlep_row_gets_its_question_and_its_clips_file_name(video: str, found_as: str) -> None:
    row = {"video": video, "qid": "VLEP_7", "num_option": 2, "a0": "x", "a1": "y", "answer": 0, "start": 1, "end": 2}
    question = parsed(row).question
    assert (question.text, question.video) == ("What is most likely to happen next?", found_as)


def test_only_vlep_videos_lose_the_ending_of_their_name() -> None:
    assert parsed({**CHOICE, "video": "trip_ep"}).question.video == "trip_ep"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (without(CHOICE, "answer"), None),
        ({**CHOICE, "answer": None}, None),
        ({**CHOICE, "answer": "0"}, 0),
    ],
)
def test_an_answer_may_be_unknown_or_written_as_text(row: dict, expected: int | None) -> None:
    assert parsed(row).question.answer == expected


def test_options_are_counted_where_their_number_is_not_given() -> None:
    assert parsed(without(CHOICE, "num_option")).question.options == ("x.", "y.")


@pytest.mark.parametrize(
    ("qid", "kind"),
    [("CW_401_0", "CW"), ("Interaction_T1_13", "Interaction"), ("HOW2QA_val_0", "HOW2QA"), ("12", None), ("_1", None)],
)
def test_the_type_is_what_stands_before_the_first_underscore(qid: str, kind: str | None) -> None:
    assert question_type(qid) == kind


@pytest.mark.parametrize(
    ("windows", "duration", "read"),
    [
        ([[2.5, 6.25]], 30.96, [(2.5, 6.25)]),
        ([[2, 31]], 30.96, [(2, 30.96)]),
        ([[2, 4], [20.2, 33.9]], 30.96, [(2, 4), (20.2, 30.96)]),
        ([[2, 5.9]], 5, [(2, 5)]),
    ],
)
def test_a_window_that_ends_a_little_after_the_video_is_cut_there(windows: list, duration: float, read: list) -> None:
    row = parsed({**QUERY, "duration": duration, "relevant_windows": windows})
    assert [(window.start_s, window.end_s) for window in row.question.windows or ()] == read
    assert row.shortened == (read[-1][1] == duration)


def test_a_type_of_its_own_goes_before_that_of_the_id() -> None:
    assert parsed({**CHOICE, "type": "why"}).question.kind == "why"


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"question": " "}, "question", "is blank; give its text"),
        ({"video": "../secret"}, "video", "'../secret' leaves the video folder; give a name relative to it"),
        ({"video": "/a/b"}, "video", "'/a/b' leaves the video folder; give a name relative to it"),
        ({"answer": 2}, "answer", "2 is not an option; give an index from 0 to 1"),
        ({"answer": -1}, "answer", "-1 is not an option; give an index from 0 to 1"),
        ({"num_option": 0}, "num_option", "0 options; give 2 to 26, as fields a0, a1, ..."),
        ({"num_option": 1}, "num_option", "1 option; give 2 to 26, as fields a0, a1, ..."),
        ({"num_option": 27}, "num_option", "27 options; give 2 to 26, as fields a0, a1, ..."),
        ({"num_option": 3}, "a2", "is missing; every row of this kind needs it, this one has 'video', 'qid', "
         "'question', 'num_option', 'a0', 'a1', 'answer'"),
        ({"a2": "z."}, "a2", "is beyond the 2 options of 'num_option'; mend one of them"),
        ({"start": 5}, "end", "is missing; every row of this kind needs it, this one has 'video', 'qid', "
         "'question', 'num_option', 'a0', 'a1', 'answer', 'start'"),
        ({"start": 5, "end": 4}, "end", "4 s is before the start at 5 s; swap or mend them"),
        ({"start": -1, "end": 4}, "start", "-1.0 is not a time in seconds; give a number from 0"),
        ({"start": 1, "end": 9, "duration": 8}, "end", "9 s is after the video's end at 8 s; mend one of them"),
        ({"duration": float("inf")}, "duration", "inf is not a finite number; write it as one"),
        ({"windows": [[2, 6]], "duration": 5}, "windows", "6 s is after the video's end at 5 s; mend one of them"),
        ({"windows": [[6, 2]]}, "windows", "2 s is before the start at 6 s; swap or mend them"),
        ({"windows": [[2, 2]]}, "windows", "[2, 2] has no length; widen it or leave it out"),
        ({"windows": [2, 6]}, "windows", "[2, 6] is not a list of [start, end] pairs in seconds"),
        ({"windows": [], "relevant_windows": []}, "windows",
         "stands beside 'relevant_windows'; they mean the same, keep one of them"),
        ({"query": "a boat"}, "query", "stands beside 'question'; a row is a question or a search, keep one of them"),
        ({"saliency_scores": [[1]], "relevant_clip_ids": []}, "saliency_scores",
         "is not a list of scores for each of 'relevant_clip_ids'"),
        ({"saliency_scores": [[0.5]], "relevant_clip_ids": [1]}, "saliency_scores",
         "0.5 is not a clip index or score; give whole numbers"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_file_row_and_field(changes: dict, field: str, problem: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        parsed({**CHOICE, **changes})
    assert str(raised.value) == f"val.json, row 3, field {field!r}: {problem}"


@pytest.mark.parametrize("name", ["video", "qid", "question", "a0"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(AnnotationError, match=f"row 3, field '{name}': is missing"):
        parsed(without(CHOICE, name))


def test_a_misspelt_field_is_an_error_that_suggests_the_right_one() -> None:
    with pytest.raises(AnnotationError, match="field 'anwser': is not a field of the schema; did you mean 'answer'"):
        parsed({**without(CHOICE, "answer"), "anwser": 1})


def test_further_fields_are_welcome() -> None:
    assert parsed({**CHOICE, "video_id": 5, "subtitles": "...", "weather": "fine"}) == parsed(CHOICE)


def test_the_published_schema_names_the_very_fields_that_are_read() -> None:
    path = Path(__file__).parents[3] / "sevila_data" / "schema.json"
    schema = json.loads(path.read_text())
    assert set(schema["items"]["properties"]) == set(FIELDS)
    assert list(schema["items"]["patternProperties"]) == ["^a[0-9]+$"]


PARTS = st.sampled_from(
    [None, True, -1, 0, 2, 10**400, 1e308, float("nan"), float("inf"), "", "nan", "-0", "\ud800", "\n"]
)
VALUES = PARTS | st.lists(PARTS | st.lists(PARTS, max_size=3), max_size=3) | st.dictionaries(st.just("x"), PARTS)


@given(st.dictionaries(st.sampled_from([*FIELDS, "a0", "a1", "a2", "a99", "x"]), VALUES))
def test_any_row_is_a_question_or_one_line_about_what_is_wrong(changes: dict) -> None:
    for row in (changes, {**CHOICE, **changes}, {**QUERY, **changes}):
        try:
            outcome = repr(parsed(row))
        except AnnotationError as error:
            outcome = str(error)
        assert outcome.startswith(("Annotation(", "val.json, row 3, field "))
        assert len(outcome.splitlines()) == 1


PUBLISHED = json.loads((Path(__file__).parents[2] / "data" / "raw" / "notebook_outputs.json").read_text())


def rows(count: int) -> list[dict]:
    return [
        {"video": f"v{index}", "qid": f"CW_v_{index}", "question": "why?", "a0": "x", "a1": "y", "answer": index % 2}
        for index in range(count)
    ]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", rows(3))
    annotations = read_annotations(tmp_path / "a.json")
    assert [(question.id, question.answer) for question in annotations.questions] == [
        ("CW_v_0", 0),
        ("CW_v_1", 1),
        ("CW_v_2", 0),
    ]
    assert json.loads((tmp_path / "a.json").read_text()) == rows(3)


def test_jsonl_is_read_like_a_json_list(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows(3))))
    write_annotations(tmp_path / "a.json", rows(3))
    assert read_annotations(tmp_path / "a.jsonl").rows == read_annotations(tmp_path / "a.json").rows


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_files_prepared_by_the_published_notebook_are_readable(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(PUBLISHED[name]))
    annotations = read_annotations(tmp_path / "a.json")
    assert [question.id for question in annotations.questions] == [row["qid"] for row in PUBLISHED[name]]
    assert sum(row.untimed for row in annotations.rows) == (1 if name.startswith("tvqa") else 0)


def bad_file(folder: Path) -> Path:
    given = rows(4)
    given[1]["answer"] = 9
    given[3]["qid"] = "CW_v_0"
    write_annotations(folder / "bad.json", given)
    return folder / "bad.json"


def test_all_bad_rows_are_named_in_one_line(tmp_path: Path) -> None:
    path = bad_file(tmp_path)
    with pytest.raises(AnnotationError) as raised:
        read_annotations(path)
    assert str(raised.value) == (
        f"{path}, row 2, field 'answer': 9 is not an option; give an index from 0 to 1; "
        f"{path}, row 4, field 'qid': 'CW_v_0' is the id of an earlier row; give every question its own; "
        "or leave bad rows out with --skip-bad of sevila prepare"
    )


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", [{**row, "answer": 9} for row in rows(10)])
    with pytest.raises(AnnotationError, match="; and 7 more bad rows; or leave") as raised:
        read_annotations(tmp_path / "a.json")
    assert str(raised.value).count("9 is not an option") == 3


def test_bad_rows_can_be_left_out_and_are_listed(tmp_path: Path) -> None:
    annotations = read_annotations(bad_file(tmp_path), skip_bad=True)
    assert [question.id for question in annotations.questions] == ["CW_v_0", "CW_v_2"]
    assert [problem.split(": ")[0].split(", ", 1)[1] for problem in annotations.skipped] == [
        "row 2, field 'answer'",
        "row 4, field 'qid'",
    ]


@pytest.mark.parametrize(("content", "ending"), [("[]", "usable row"), ("", "usable row"), ("[{}]", "has none")])
def test_a_file_without_a_usable_row_is_an_error(tmp_path: Path, content: str, ending: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(AnnotationError, match=f"a.json holds no usable row.*{ending}$|{ending}$"):
        read_annotations(tmp_path / "a.json", skip_bad=True)


def test_fifty_thousand_questions_are_read(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", rows(50_000))
    assert len(read_annotations(tmp_path / "a.json")) == 50_000


@pytest.mark.slow
def test_fifty_thousand_questions_are_read_in_seconds(tmp_path: Path) -> None:
    with cpu_seconds_at_most(10):
        test_fifty_thousand_questions_are_read(tmp_path)


def test_the_documented_example_is_readable(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[3] / "sevila_data" / "README.md").read_text()
    example = readme.split("```json\n")[1].split("```")[0]
    (tmp_path / "a.json").write_text(example)
    choice, search = read_annotations(tmp_path / "a.json").questions
    assert (choice.kind, choice.options[1], search.text) == ("CW", "to fetch the ball.", "a boy with a kite")


def test_windows_that_are_cut_at_the_videos_end_are_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"video": "AO8RW", "query": "a person sits", "duration": 30.96}
    windows = [[[1.5, 31.7]], [[0, 2], [3, 31]], [[2, 30]]]
    rows = [{**row, "qid": f"q{number}", "relevant_windows": each} for number, each in enumerate(windows)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert len(read_annotations(tmp_path / "a.json")) == 3
    assert caplog.messages == [f"{tmp_path}/a.json: 2 rows have a window that ends after the video: cut there"]


def test_slices_and_subtitles_are_read() -> None:
    row = parsed({**CHOICE, "slices": {"domain": "Knowledge"}, "cues": [[0, 1.5, "hello"], [2, 2, "bye"]]})
    assert row.slices == {"domain": "Knowledge"}
    assert row.question.subtitles == (Subtitle(0.0, 1.5, "hello"), Subtitle(2.0, 2.0, "bye"))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("slices", ["Knowledge"], r"\['Knowledge'\] is not an object of texts, such as \{'domain': 'Knowledge'\}"),
        ("slices", {"domain": 3}, r"\{'domain': 3\} is not an object of texts"),
        ("cues", "hello", r"'hello' is not a list of \[start, end, text\]"),
        ("cues", [[0, 1]], r"\[\[0, 1\]\] is not a list of \[start, end, text\]"),
        ("cues", [[2, 1, "hello"]], "1 s is before the start at 2 s"),
        ("cues", [[0, 1, 7]], "7 is not text"),
    ],
)
def test_slices_and_subtitles_that_are_something_else_are_named(field: str, value: object, problem: str) -> None:
    with pytest.raises(AnnotationError, match=f"val.json, row 3, field '{field}': {problem}"):
        parsed({**CHOICE, field: value})


@pytest.mark.parametrize("name", ["choices", "lines", "slice", "clues"])
def test_what_people_write_is_not_taken_for_a_field_of_converters(name: str) -> None:
    assert parsed({**CHOICE, name: "anything"}) == parsed(CHOICE)
