"""Charades-STA: `charades_sta_train.txt` and `charades_sta_test.txt`, lines of `VIDEO START END##sentence`.

Four training windows are written backwards and are turned round, as UMT reads them. The files do not say how long
videos are, so that no window is cut.
"""

import re
from collections.abc import Iterator

from lavis.datasets.records import Record, read_text, shown
from sevila_data.dataset import RawDataset, RawSplit, Row, row_by_row

_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##\s*(.*?)\s*")


def rows(raw: RawSplit) -> Iterator[Record]:
    """Read the lines of a split."""
    for file in raw.files:
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            if line.strip():
                yield Record({"line": line.strip()}, file, number)


def convert(record: Record, index: int, raw: RawSplit) -> Row:
    """Return the schema's row."""
    match = _LINE.fullmatch(record.text("line"))
    if not match:
        raise record.error("line", f"{shown(record.text('line'))} is not VIDEO START END##sentence")
    times = [record.as_seconds("line", time) for time in match.group(2, 3)]
    if times[1] < times[0]:
        raw.notes["a window ends before it starts: turned round"] += 1
    return {
        "video": match[1],
        "qid": f"CharadesSTA_{raw.name}_{index}",
        "query": match[4],
        "relevant_windows": [sorted(times)],
    }


DATASET = RawDataset(
    "charades_sta",
    {split: (f"charades_sta_{split}.txt",) for split in ("train", "test")},
    row_by_row(convert),
    rows,
)
