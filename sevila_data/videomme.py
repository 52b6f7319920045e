"""Video-MME as the hub has it: `videomme/test-*.parquet`, or its rows as `test.json`, `test.jsonl` or `test.csv`.

Options are written "A. Apples.", answers as letters. Figures go by duration (the type: short, medium, long), and by
domain, sub-category and task. Subtitles are the files `subtitle/<videoID>.srt` beside the rows, where there are some.
"""

from functools import lru_cache

from lavis.datasets.records import Record
from sevila_data.dataset import (
    RawDataset,
    RawSplit,
    Row,
    RowConverter,
    answer_of_letter,
    lettered_options,
    option_fields,
)
from sevila_data.subtitles import cue_fields, read_srt

_SLICES = ("domain", "sub_category", "task_type")


def converter(raw: RawSplit) -> RowConverter:
    """Return the converter of a split."""
    # A video's questions stand together.
    read = lru_cache(maxsize=4)(read_srt)

    def convert(record: Record, _index: int) -> Row:
        options = lettered_options(record, "options")
        video = record.name("videoID")
        return {
            "video": video,
            "qid": record.id("question_id"),
            "type": record.text("duration"),
            "question": record.text("question"),
            **option_fields(options),
            "answer": answer_of_letter(record, "answer", options),
            "slices": {name: record.text(name) for name in _SLICES},
            **cue_fields(raw, f"subtitle/{video}.srt", read),
        }

    return convert


DATASET = RawDataset(
    "videomme",
    {"test": ("videomme/test-*.parquet", "test-*.parquet", "test.json", "test.jsonl", "test.csv")},
    converter,
)
