"""Tables as spreadsheets, pandas and R write them."""

from pathlib import Path

import pytest

from lavis.common.errors import AnnotationError
from lavis.datasets.records import read_records

ROWS = [{"video": "a", "question": "Who, then?", "a0": "x"}, {"video": "b", "question": "Why?\nNow", "a0": None}]
PLAIN = 'video,question,a0\na,"Who, then?",x\nb,"Why?\nNow",\n'


def rows_of(folder: Path, content: str | bytes, name: str = "t.csv") -> list[dict]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [{key: value or None for key, value in record.fields.items()} for record in read_records(path)]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN + "\n\n,,\n  \n",
        'video;question;a0\na;"Who, then?";x\nb;"Why?\nNow";\n',
        'video\tquestion\ta0\na\tWho, then?\tx\nb\t"Why?\nNow"\t\n',
        'video|question|a0\na|Who, then?|x\nb|"Why?\nNow"|\n',
        'sep=;\nvideo;question;a0\na;"Who, then?";x\nb;"Why?\nNow"\n',
        'video, question, a0\na, "Who, then?", x\nb, "Why?\nNow",\n',
        ' video ,question\t, a0 \na,"Who, then?",x\nb,"Why?\nNow",\n',
        '"video","question","a0"\n"a","Who, then?","x"\n"b","Why?\nNow",""\n',
        ',video,question,a0\n0,a,"Who, then?",x\n1,b,"Why?\nNow",\n',
        'Unnamed: 0,video,question,a0\n0,a,"Who, then?",x\n1,b,"Why?\nNow",\n',
        'Unnamed: 0.1,Unnamed: 0,video,question,a0\n0,0,a,"Who, then?",x\n1,1,b,"Why?\nNow",\n',
        '"video","question","a0"\n"1","a","Who, then?","x"\n"2","b","Why?\nNow",\n',
        'video,question,a0,,\na,"Who, then?",x,,\nb,"Why?\nNow",,,,\n',
    ],
    ids=[
        "plain", "utf-8 mark", "utf-16", "utf-16 big endian", "utf-32", "windows", "old mac", "empty rows at the end",
        "semicolons", "tabs", "bars", "excel's line", "spaced", "spaces in the header", "all quoted", "pandas' index",
        "pandas' index read back", "read back twice", "row names of R", "columns without name or content",
    ],
)  # fmt: skip
def test_the_same_table_is_read_however_it_is_written(
    tmp_path: Path, content: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert rows_of(tmp_path, content) == ROWS
    assert caplog.records == []


def test_tabs_separate_a_tsv_whatever_its_text_holds(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "question\nWho, if anyone, and why; now?\n", "q.TSV") == [
        {"question": "Who, if anyone, and why; now?"}
    ]


def test_spaces_within_cells_are_kept(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "a,b\n x, y \n") == [{"a": " x", "b": " y "}]


def test_a_column_without_a_name_that_holds_text_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert rows_of(tmp_path, "a,,b\n1,2,3\n4,text,6\n") == [{"a": "1", "b": "3"}, {"a": "4", "b": "6"}]
    assert caplog.messages == [f"{tmp_path}/t.csv: column 2 has no name and is left out; it holds 'text'"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a,b,a\n1,2,3\n", " has two columns 'a'; its columns are 'a', 'b', 'a'"),
        ("a,b\n1,2,3\n", ", line 2 has more cells than the header; put text with commas in quotes"),
        ("a,b\n5,2,3\n6,2,3\n", ", line 2 has more cells than the header; put text with commas in quotes"),
        ("a,b\n1,2\n3,4,x\n", ", line 3 has more cells than the header; put text with commas in quotes"),
        ('a,b\n1,"x\n2,y\n3,z\n', ", line 2 or later opens a quotation that never ends; close it"),
        ('a,b\n1,x\n2,y"\n3,"', ", line 4 or later opens a quotation that never ends; close it"),
        ("a,b\n1," + "x" * 200_000, ", line 2 is not valid CSV: field larger than field limit (131072)"),
    ],
)
def test_a_table_that_cannot_be_understood_is_named(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        rows_of(tmp_path, content)
    assert str(raised.value) == f"{tmp_path}/t.csv{problem}"


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "a,b\n", ",,\n"])
def test_a_table_without_rows_has_none(tmp_path: Path, content: str) -> None:
    assert rows_of(tmp_path, content) == []


OBJECTS = [{"video": "a", "answer": 1}, {"video": "b", "answer": None}]


@pytest.mark.parametrize(
    "content",
    [
        '[{"video": "a", "answer": 1}, {"video": "b", "answer": null}]',
        '{"video": "a", "answer": 1}\r\n{"video": "b", "answer": null}\r\n\r\n',
        '{"version": 1, "data": [{"video": "a", "answer": 1}, {"video": "b", "answer": null}]}',
        '{\n "questions": [\n  {"video": "a", "answer": 1},\n  {"video": "b", "answer": null}\n ]\n}\n',
        '{"video": {"0": "a", "1": "b"}, "answer": {"0": 1, "1": null}}',
        '{"columns": ["video", "answer"], "index": [0, 1], "data": [["a", 1], ["b", null]]}',
    ],
    ids=["list", "jsonl from windows", "in a field", "indented", "pandas by column", "pandas split"],
)
def test_the_same_rows_are_read_however_json_holds_them(tmp_path: Path, content: str) -> None:
    assert rows_of(tmp_path, content, "r.json") == OBJECTS


def test_a_single_row_may_stand_on_several_lines(tmp_path: Path) -> None:
    assert rows_of(tmp_path, '{\n "video": "a",\n "choices": [{"x": 1}]\n}', "r.json") == [
        {"video": "a", "choices": [{"x": 1}]}
    ]
