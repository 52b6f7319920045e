import math
import sys
from pathlib import Path

import pytest

from lavis.common.errors import AnnotationError, MissingExtraError
from lavis.datasets.records import Record, read_object, read_records


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("a.json", '[{"x": 1},\n\n {"x": 2}]', [("row", 1, 1), ("row", 2, 2)]),
        ("a.jsonl", '{"x": 1}\n\n{"x": 2}\n', [("line", 1, 1), ("line", 3, 2)]),
        ("a.csv", 'x,y\n1,"two\nlines"\n2,z\n', [("line", 3, "1"), ("line", 4, "2")]),
        ("bom.json", b'\xef\xbb\xbf[{"x": 1}]', [("row", 1, 1)]),
        ("separator.jsonl", '{"x": "a\u2028b"}', [("line", 1, "a\u2028b")]),
    ],
)
def test_rows_know_their_place(tmp_path: Path, name: str, text: str | bytes, places: list) -> None:
    records = read_records(written(tmp_path, name, text))
    assert [(record.unit, record.number, record.fields["x"]) for record in records] == places


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"x": 1},', "a.json is not valid JSON: Expecting value: line 1 column 11 (char 10)"),
        ("a.json", "[" * 100_000, "a.json is nested too deeply to be annotations"),
        ("a.json", "[1]", "a.json, row 1 is 1, not an object with named fields"),
        ("a.jsonl", '{}\n{"x"', "a.jsonl, line 2 is not valid JSON: Expecting ':' delimiter: line 1 column 5 (char 4)"),
        ("a.json", b'[{"x": "\xff"}]', "a.json is not UTF-8 text (byte 8); save it as UTF-8"),
        ("a.csv", "x\n1,2\n", "a.csv, line 2 has more cells than the header; put text with commas in quotes"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_place_of_the_damage(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(AnnotationError) as raised:
        list(read_records(path))
    assert str(raised.value) == f"{tmp_path}/{message}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"cannot read .*/none\.json: No such file or directory"):
        read_records(tmp_path / "none.json")


def test_a_list_is_not_taken_for_an_object(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="holds a JSON list, not an object; is it the right file"):
        read_object(written(tmp_path, "map.json", "[]"))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sevila\[data\]'"):
        list(read_records(tmp_path / "a.parquet"))


def record(value: object) -> Record:
    return Record({"x": value, "y": 1, "z": ""}, Path("f.json"), 3, "row")


@pytest.mark.parametrize(
    ("getter", "value", "expected"),
    [
        ("text", " a ", " a "),
        ("name", 12, "12"),
        ("name", "v", "v"),
        ("name", 7.0, "7"),
        ("name", "7.0", "7.0"),
        ("id", "7.0", "7"),
        ("id", 7.0, "7"),
        ("id", " 7", "7"),
        ("id", "007", "007"),
        ("id", "1.50", "1.50"),
        ("whole", "1.0", 1),
        ("whole", 1.0, 1),
        ("whole", "3", 3),
        ("whole", 3, 3),
        ("seconds", "3.9", 3.9),
        ("seconds", 0, 0.0),
        ("time_or_nan", "-1", -1.0),
        ("time_or_nan", "1:30", 90.0),
        ("seconds", "1:02:03.5", 3723.5),
    ],
)
def test_a_field_is_read_as_its_type(getter: str, value: object, expected: object) -> None:
    assert getattr(record(value), getter)("x") == expected


def test_nan_is_a_number_but_not_a_time() -> None:
    assert math.isnan(record("nan").time_or_nan("x"))
    with pytest.raises(AnnotationError, match="'nan' is not a time in seconds; give a number from 0"):
        record("nan").seconds("x")


@pytest.mark.parametrize(
    ("getter", "value", "problem"),
    [
        ("text", None, "is missing; every row of this kind needs it, this one has 'y'"),
        ("text", " ", "is blank; give its text"),
        ("text", 3, "3 is not text; put it in quotes"),
        ("text", "\ud800", r"'\ud800' holds half a surrogate pair; mend its encoding"),
        ("name", True, "True is not text; put it in quotes"),
        ("whole", True, "True is not a whole number; write it as one"),
        ("whole", 1.5, "1.5 is not a whole number; write it as one"),
        ("whole", "9" * 5000, f"'{'9' * 27}...{'9' * 28}' is not a whole number; write it as one"),
        ("seconds", -1, "-1 is not a time in seconds; give a number from 0"),
        ("seconds", "1:75", "'1:75' is no time; give seconds, mm:ss or hh:mm:ss"),
        ("seconds", math.inf, "inf is not a finite number; write it as one"),
        ("seconds", True, "True is not a finite number; write it as one"),
        ("seconds", [1], "[1] is not a finite number; write it as one"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_place(getter: str, value: object, problem: str) -> None:
    with pytest.raises(AnnotationError) as raised:
        getattr(record(value), getter)("x")
    assert str(raised.value) == f"f.json, row 3, field 'x': {problem}"


def test_an_integer_beyond_floating_point_is_not_a_time() -> None:
    with pytest.raises(AnnotationError, match="is not a finite number"):
        record(10**400).seconds("x")


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
