"""Whatever bytes a file of rows holds: rows come of it, or one line that a person can read."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lavis.cli.questions import read_questions
from lavis.common.errors import UserError
from lavis.datasets.annotations import read_annotations
from lavis.tasks.metrics.submission import read_ground_truth, read_submission
from sevila_data.own_rows import answer_index, readable_rows, ways_of

TABLE = '\ufeff,Video,Question,Option A,Option B,Answer,start\n0,a,"Who,\nthen?",x,y,B.,1.0\n1,b,Why?,1,2,2,\n'
ROWS = [
    {"video": "a", "qid": 7, "question": "Who?", "options": ["x", "y"], "answer": 1.0, "start": 1, "end": 2},
    {
        "vid": "a",
        "qid": "q",
        "query": "a dog",
        "duration": 9,
        "relevant_windows": [[1, 2.5]],
        "pred_relevant_windows": [],
    },
]
SAMPLES = [
    TABLE.encode(),
    TABLE.replace(",", ";").encode("utf-16"),
    "".join(json.dumps(row) + "\r\n" for row in ROWS).encode(),
    json.dumps({"data": ROWS}, indent=1).encode(),
    json.dumps({"a": {"0": 1, "1": None}, "b": {"0": "x", "1": []}}).encode(),
]
NAMES = ("r.csv", "r.tsv", "r.json", "r.jsonl", "r.parquet")
PIECES = [b"\x00", b"\xff", b'"', b"\n", b"\r", b",", b";", b"\t", b"[", b"]", b"{", b"}", b"null", b"NaN", b"1e999",
          b"9" * 400, b"\xef\xbb\xbf", b"\xff\xfe", b"sep=;\n", b"['a' 'b']", b"true", b"-1", b"\\ud800"]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file that some tool wrote, with a few places changed, or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    content = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 6)))
        content = content[:start] + draw(st.sampled_from([b"", *PIECES])) + content[end:]
    return content


def own_questions(path: Path) -> int:
    rows = readable_rows(path)
    ways = ways_of(rows)
    return len([answer_index(row, ways) for row in rows])


@pytest.mark.parametrize("read", [own_questions, read_questions, read_annotations, read_submission, read_ground_truth])
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=damaged(), name=st.sampled_from(NAMES))
@example(content=b'[{"video": "a", "question": "' + b"\\ud800" + b'"}]', name="r.json")
@example(content=b'{"a": ' + b"[" * 100_000, name="r.jsonl")
@example(content=b'question,options\n?,"' + b"[" * 50_000 + b'"\n', name="r.csv")
@example(content=b"question,qid,answer\n?," + b"9" * 5000 + b"," + b"9" * 5000 + b"\n", name="r.csv")
def test_bytes_give_rows_or_one_line(read: object, content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    try:
        read(path)  # type: ignore[operator]
    except UserError as error:
        message = str(error)
        assert message.startswith((str(path), f"cannot read {path}"))
        assert "\n" not in message
        message.encode()


def test_samples_are_read_as_they_are(tmp_path: Path) -> None:
    found = []
    for at, (name, content) in enumerate(zip(("r.csv", "r.csv", "r.jsonl", "r.json"), SAMPLES[:4], strict=True)):
        path = tmp_path / f"{at}{name}"
        path.write_bytes(content)
        found.append(own_questions(path))
    assert found == [2, 2, 2, 2]


def test_an_option_of_thousands_of_digits_is_no_option(tmp_path: Path) -> None:
    row = {"video": "v", "qid": "q", "question": "what?", "num_option": 2, "a0": "x", "a1": "y", "answer": 1}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{**row, f"a{'1' * 5000}": "z"}]))
    (read,) = read_annotations(path).rows
    assert read.question.options == ("x", "y")
