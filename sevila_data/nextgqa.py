"""NExT-GQA: NExT-QA's questions with the times that ground their answers (`gsub_val.json`, `gsub_test.json`).

Its CSV files name the right option by its text. Its durations are rounded to whole seconds, so that a few windows
end up to half a second after them, and a few start up to 0.2 s before zero: the windows are kept, cut at zero, and
the duration is moved to the last window's end. Training questions have no windows.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, read_object
from sevila_data.dataset import RawDataset, RawSplit, Row, RowConverter, answer_of_text, option_fields
from sevila_data.nextqa import question_fields, sentences, video_paths
from sevila_data.own_rows import OwnRow, answer_index, own_row, readable_rows, schema_named, ways_of


def converter(raw: RawSplit) -> RowConverter:
    """Return the converter of a split."""
    paths = video_paths(raw.folder)
    grounding = {} if raw.name == "train" else _grounding(raw)

    ways = ways_of(row for file in raw.files for row in readable_rows(file))

    def convert(record: Record, _index: int) -> Row:
        answer = _answer(own_row(record), ways, raw.notes)
        record = schema_named(record)
        row = {**question_fields(record, paths), **option_fields(sentences(record)), **answer}
        return row if raw.name == "train" else {**row, **_window_fields(record, grounding, raw.notes)}

    return convert


def _grounding(raw: RawSplit) -> Mapping[str, Any]:
    path = raw.folder / f"gsub_{raw.name}.json"
    if not path.exists():
        raise AnnotationError(f"{path} is missing; it holds the times of NExT-GQA's {raw.name} answers")
    return read_object(path)


def _answer(row: OwnRow, ways: frozenset[str], notes: Counter[str]) -> Row:
    if row.options.count(row.record.fields.get("answer")) > 1:
        return {"answer": answer_of_text(row.record, "answer", row.options, notes)}
    answer = answer_index(row, ways)
    return {} if answer is None else {"answer": answer}


def _window_fields(record: Record, grounding: Mapping[str, Any], notes: Counter[str]) -> Row:
    video, qid = record.id("video"), record.id("qid")
    try:
        duration = float(grounding[video]["duration"])
        windows = [(float(start), float(end)) for start, end in grounding[video]["location"][qid]]
        last_end = max(end for _, end in windows)
    except (KeyError, TypeError, ValueError):
        raise record.error("qid", f"question {qid} of video {video} has no usable times in the gsub file") from None
    if any(start < 0 for start, _ in windows):
        notes["a window starts before the video: cut at 0 s"] += 1
    if last_end > duration:
        notes["a window ends after the rounded duration: the duration follows it"] += 1
    return {"duration": max(duration, last_end), "windows": [[max(0.0, start), end] for start, end in windows]}


DATASET = RawDataset("nextgqa", {"train": ("train.csv",), "val": ("val.csv",), "test": ("test.csv",)}, converter)
