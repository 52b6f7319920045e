"""TACoS: `train.json`, `val.json`, `test.json`, an object of videos with sentences, and windows counted in frames."""

from collections.abc import Iterator

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, read_object
from sevila_data.dataset import RawDataset, RawSplit, Row, row_by_row, without_ending


def rows(raw: RawSplit) -> Iterator[Record]:
    """Read the sentences of a split, one after the other."""
    for file in raw.files:
        number = 0
        for video, entry in read_object(file).items():
            fields = entry if isinstance(entry, dict) else {}
            sentences, windows = fields.get("sentences"), fields.get("timestamps")
            if not isinstance(sentences, list) or not isinstance(windows, list) or len(sentences) != len(windows):
                raise AnnotationError(f"{file}: video {video!r} has not as many timestamps as sentences")
            for place, (sentence, window) in enumerate(zip(sentences, windows, strict=True)):
                number += 1
                row = {**fields, "video": video, "place": place, "sentence": sentence, "window": window}
                yield Record(row, file, number, "sentence", written={"window": "timestamps"})


def convert(record: Record, _index: int, raw: RawSplit) -> Row:
    """Return the schema's row."""
    video, fps = without_ending(record.text("video")), record.seconds("fps")
    window = record.value("window")
    if not fps or not isinstance(window, list) or len(window) != 2:
        raise record.error("window", f"{window} at {fps:g} frames a second is not [first frame, last frame]")
    start, end = (record.as_seconds("window", frame) / fps for frame in window)
    duration = record.seconds("num_frames") / fps
    if start < duration < end:
        raw.notes["a window ends after the video: cut there"] += 1
    return {
        "video": video,
        "qid": f"TACoS_{video}_{record.whole('place')}",
        "query": record.text("sentence"),
        "duration": duration,
        "relevant_windows": [[start, min(end, duration)]],
    }


DATASET = RawDataset(
    "tacos", {split: (f"{split}.json",) for split in ("train", "val", "test")}, row_by_row(convert), rows
)
