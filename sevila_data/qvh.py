"""QVHighlights: `highlight_train_release.jsonl`, `highlight_val_release.jsonl`, and a file for the test split.

That is `highlight_test_with_gt.jsonl`, the ground truth that was released later, or else
`highlight_test_release.jsonl`, without windows, on which nothing can be measured. Besides the notebook's fields the
annotators' saliency scores are kept: highlight detection is measured against them.
"""

from lavis.datasets.records import Record
from sevila_data.dataset import RawDataset, RawSplit, Row, row_by_row

_KEPT = ("relevant_windows", "relevant_clip_ids", "saliency_scores")


def convert(record: Record, _index: int, raw: RawSplit) -> Row:
    """Return the schema's row."""
    if not record.has("relevant_windows"):
        raw.notes["no windows given: the query can be answered but not measured"] += 1
    return {
        "video": record.name("vid"),
        "qid": f"QVHighlight_{record.id('qid')}",
        "query": record.text("query"),
        "duration": record.value("duration"),
        **{field: record.value(field) for field in _KEPT if record.has(field)},
    }


DATASET = RawDataset(
    "qvh",
    {
        "train": ("highlight_train_release.jsonl",),
        "val": ("highlight_val_release.jsonl",),
        "test": ("highlight_test_with_gt.jsonl", "highlight_test_release.jsonl"),
    },
    row_by_row(convert),
)
