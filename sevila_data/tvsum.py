"""TVSum: QD-DETR's `tvsum_train.jsonl` and `tvsum_val.jsonl`, or the original `ydata-tvsum50-anno.tsv`, `-info.tsv`.

The title of a video is the query, its category the type; twenty people have rated every two seconds of it from 1 to 5.
In QD-DETR's files `duration` is the number of these clips. The original file has a rating for each frame: that of a
clip is the one of the frame in its middle, by the length of the video, which is given in whole seconds. UMT's ten
videos are val, one of each category, the others train.
"""

from collections.abc import Iterator

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, read_records, read_text
from sevila_data.dataset import RawDataset, RawSplit, Row, clock_seconds, row_by_row

_CLIP_S = 2
_ANNOTATIONS, _INFO = "ydata-tvsum50-anno.tsv", "ydata-tvsum50-info.tsv"
UMT_VAL = (
    *("Se3oxnaPsz0", "JgHubY5Vw3Y", "E11zDS9XGzg", "JKpqYvAdIsw", "Bhxk-O1Y7Ho"),
    *("Yi4Ij2NM7U4", "cjibtmSLxQ4", "fWutDQy1nnY", "J0nA4VgnoCo", "sTEELN-vY30"),
)


def rows(raw: RawSplit) -> Iterator[Record]:
    """Read the videos of a split, one row each."""
    (file, *_) = raw.files
    if file.name != _ANNOTATIONS:
        yield from (record for file in raw.files for record in read_records(file))
        return
    info = file.with_name(_INFO)
    if not info.is_file():
        raise AnnotationError(f"{info} is missing; it holds the titles and lengths of the videos")
    ratings: dict[str, list[list[str]]] = {}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        cells = line.strip().split("\t")
        if len(cells) == 3:
            ratings.setdefault(cells[0], []).append(cells[2].split(","))
        elif line.strip():
            raise AnnotationError(f"{file}, line {number} has {len(cells)} cells, not video, category and ratings")
    for record in read_records(info):
        video = record.text("video_id")
        if (video in UMT_VAL) == (raw.name == "val"):
            yield Record(_as_row(record, video, ratings.get(video, [])), record.path, record.number, record.unit)


def _as_row(record: Record, video: str, by_annotator: list[list[str]]) -> Row:
    length_s = clock_seconds(record, "length", record.value("length"))
    num_frames = {len(ratings) for ratings in by_annotator}
    if len(num_frames) != 1 or length_s < _CLIP_S:
        raise record.error("video_id", f"{video!r} has no ratings of {length_s:g} s by frames in {_ANNOTATIONS}")
    # Half a second more: the length is rounded down.
    frames_per_s = num_frames.pop() / (length_s + 0.5)
    middles = [int((clip + 0.5) * _CLIP_S * frames_per_s) for clip in range(int(length_s) // _CLIP_S)]
    return {
        "vid": video,
        "query": record.text("title"),
        "domain": record.text("category"),
        "label": [[ratings[frame] for ratings in by_annotator] for frame in middles],
    }


def convert(record: Record, _index: int, _raw: RawSplit) -> Row:
    """Return the schema's row."""
    video, labels = record.name("vid"), record.value("label")
    is_table = isinstance(labels, list) and all(isinstance(ratings, list) and ratings for ratings in labels)
    if not labels or not is_table or len({len(ratings) for ratings in labels}) != 1:
        raise record.error("label", "is not a list of clips with a rating by each annotator")
    scores = [[int(record.as_number("label", rating)) for rating in ratings] for ratings in labels]
    return {
        "video": video,
        "qid": f"TVSum_{video}",
        "type": record.text("domain"),
        "query": record.text("query"),
        "duration": _CLIP_S * len(scores),
        "relevant_clip_ids": list(range(len(scores))),
        "saliency_scores": scores,
    }


DATASET = RawDataset(
    "tvsum",
    {split: (f"tvsum_{split}.jsonl", _ANNOTATIONS, f"data/{_ANNOTATIONS}") for split in ("train", "val")},
    row_by_row(convert),
    rows,
)
