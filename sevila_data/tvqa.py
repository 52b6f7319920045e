"""TVQA: `tvqa_train.jsonl`, `tvqa_val.jsonl`, `tvqa_test_public.jsonl` (which has no answers).

The published notebook numbers every split from 0 and keeps "nan" times; here ids carry the split (TVQA_train_0,
TVQA_val_0), times are numbers, and a question whose times are "nan" is one about the whole video.
"""

from collections.abc import Callable

from lavis.datasets.records import Record
from sevila_data.dataset import (
    RawDataset,
    RawSplit,
    Row,
    RowConverter,
    answer_fields,
    clip_fields,
    option_fields,
    row_by_row,
)


def numbered_converter(prefix: str, *, num_options: int) -> Callable[[RawSplit], RowConverter]:
    """Return the converter of TVQA's row layout, with ids `<prefix>_<split>_<index>`."""

    def convert(record: Record, index: int, raw: RawSplit) -> Row:
        return {
            "video": record.name("vid_name"),
            "qid": f"{prefix}_{raw.name}_{index}",
            "question": record.text("q"),
            **option_fields([record.text(f"a{option}") for option in range(num_options)]),
            **answer_fields(record, "answer_idx"),
            **clip_fields(record, "ts", raw.notes),
        }

    return row_by_row(convert)


DATASET = RawDataset(
    "tvqa",
    {"train": ("tvqa_train.jsonl",), "val": ("tvqa_val.jsonl",), "test": ("tvqa_test_public.jsonl",)},
    numbered_converter("TVQA", num_options=5),
)
