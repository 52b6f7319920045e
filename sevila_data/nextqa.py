"""NExT-QA: `train.csv`, `val.csv`, `test.csv` and `map_vid_vidorID.json`, or the hub's Parquet files (`MC/`).

The published notebook stops here with an error, because it hands JSON integers of NumPy; otherwise its rows are
these. The hub's videos lie in one folder: without the map its videos are named by their id alone.
"""

from collections.abc import Mapping
from pathlib import Path

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, read_object
from sevila_data.dataset import RawDataset, RawSplit, Row, RowConverter, answer_fields, option_fields
from sevila_data.own_rows import schema_named

NUM_OPTIONS = 5
VIDEO_MAP = "map_vid_vidorID.json"


def converter(raw: RawSplit) -> RowConverter:
    """Return the converter of a split."""
    flat = all(file.suffix == ".parquet" for file in raw.files) and not (raw.folder / VIDEO_MAP).exists()
    paths = None if flat else video_paths(raw.folder)

    def convert(record: Record, _index: int) -> Row:
        record = schema_named(record)
        options = sentences(record)
        return {**question_fields(record, paths), **option_fields(options), **answer_fields(record, "answer")}

    return convert


def video_paths(folder: Path) -> Mapping[str, str]:
    """Read where in VidOR's folders each video lies: "4010703311" → "1100/4010703311".

    Raises:
        AnnotationError: the map is missing.
    """
    path = folder / VIDEO_MAP
    if not path.exists():
        raise AnnotationError(f"{path} is missing; it is part of NExT-QA's annotations, put it beside the CSV files")
    return read_object(path)


def question_fields(record: Record, paths: Mapping[str, str] | None) -> Row:
    """Return video, id and question of a row under the schema's names.

    Ids are `<type>_<video>_<number>`, as the metrics group them.
    """
    video = record.id("video")
    if paths is not None and video not in paths:
        raise record.error("video", f"{video!r} is not in {VIDEO_MAP}; is the map of the same release?")
    question = record.text("question")
    return {
        "video": video if paths is None else paths[video],
        "qid": f"{record.text('type')}_{video}_{record.id('qid')}",
        "question": question if question.endswith("?") else f"{question}?",
    }


def sentences(record: Record) -> list[str]:
    """Return the options as the published prompts have them: with a full stop."""
    return [f"{record.text(f'a{index}')}." for index in range(NUM_OPTIONS)]


DATASET = RawDataset(
    "nextqa",
    {
        "train": ("train.csv", "MC/train-*.parquet", "train-*.parquet"),
        "val": ("val.csv", "MC/validation-*.parquet", "validation-*.parquet"),
        "test": ("test.csv", "MC/test-*.parquet", "test-*.parquet"),
    },
    converter,
)
