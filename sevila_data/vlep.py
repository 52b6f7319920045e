"""VLEP: `vlep_train_release.jsonl`, `vlep_dev_release.jsonl` (our val), `vlep_test_release.jsonl` (no answers).

Its videos come from two sources, TVQA's clips and YouTube clips, told apart by the time in the latter's names;
`source` says which. The published notebook writes no `question`, which the published reader then misses; here the
question that every row means is written.
"""

from lavis.datasets.annotations import NEXT_EVENT_QUESTION
from lavis.datasets.records import Record, shown
from sevila_data.dataset import RawDataset, RawSplit, Row, answer_fields, option_fields, row_by_row


def convert(record: Record, _index: int, _raw: RawSplit) -> Row:
    """Return the schema's row."""
    video = record.name("vid_name")
    start, end = _pair(record, "ts", "[start, end]")
    return {
        "video": video,
        "qid": f"VLEP_{record.id('example_id')}",
        "question": NEXT_EVENT_QUESTION,
        **option_fields(_pair(record, "events", "two events")),
        **answer_fields(record, "answer"),
        "start": start,
        "end": end,
        "source": "youtube" if ":" in video else "tvqa",
    }


def _pair(record: Record, field: str, meaning: str) -> list:
    value = record.value(field)
    if not isinstance(value, list) or len(value) != 2:
        raise record.error(field, f"{shown(value)} is not a list of {meaning}")
    return value


DATASET = RawDataset(
    "vlep",
    {"train": ("vlep_train_release.jsonl",), "val": ("vlep_dev_release.jsonl",), "test": ("vlep_test_release.jsonl",)},
    row_by_row(convert),
)
