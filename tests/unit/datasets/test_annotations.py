import json
from pathlib import Path

import pytest

from lavis.common.errors import AnnotationError
from lavis.datasets.annotations import read_annotations, write_annotations
from tests.timing import cpu_seconds_at_most

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
    assert annotations.num_untimed == (1 if name.startswith("tvqa") else 0)


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
