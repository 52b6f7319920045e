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
        ("number_or_nan", "-1", -1.0),
    ],
)
def test_a_field_is_read_as_its_type(getter: str, value: object, expected: object) -> None:
    assert getattr(record(value), getter)("x") == expected


def test_nan_is_a_number_but_not_a_time() -> None:
    assert math.isnan(record("nan").number_or_nan("x"))
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
        ("seconds", "1:30", "'1:30' is not a finite number; write it as one"),
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
