from pathlib import Path

import pytest

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record
from sevila_data.dataset import clock_seconds
from sevila_data.subtitles import read_json_subtitles, read_srt


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("00:01:02,500", 62.5), ("01:00:00.25", 3600.25), ("1:02", 62.0), (" 10:00:00 ", 36000.0), ("0:00:00", 0.0)],
)
def test_times_of_clocks(time: str, seconds: float) -> None:
    assert clock_seconds(Record({}, Path("a"), 1), "t", time) == seconds


@pytest.mark.parametrize("time", ["62", "1:2:3:4", "soon", "-1:00", "", None, 5])
def test_what_is_no_time_is_named(time: object) -> None:
    with pytest.raises(AnnotationError, match=r"a, line 1, field 't': .* is not a time such as 00:01:02\.5"):
        clock_seconds(Record({}, Path("a"), 1), "t", time)


def test_subrip_of_windows_and_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(
        "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\nfirst\r\nline\r\n\r\n\r\n"
        "00:00:03,000 --> 00:00:02,500\r\n<i>second</i>\r\n\r\nnotes\r\n".encode()
    )
    # One that ends before it starts has no length.
    assert read_srt(path) == [[1.0, 2.0, "first line"], [3.0, 3.0, "second"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "is not valid JSON"),
        ("[5]", "subtitle 1 is 5, not an object"),
        ('[{"timestamp": 3, "text": "a"}]', r"subtitle 1, field 'timestamp': 3 is not \[start, end\]"),
        ('[{"start": "0:00:01", "end": "0:00:02"}]', "subtitle 1, field 'line': is missing"),
    ],
)
def test_bad_files_of_longvideobench_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_json_subtitles(path, offset_s=0, duration_s=10)
