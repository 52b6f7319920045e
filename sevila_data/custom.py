"""Your own videos and questions: `train`, `val` and `test`, or `questions` for val alone, as tables or JSON.

The fields are the schema's, with less to write, under the names that people give them (`sevila_data.own_rows`).
Videos are looked for in `--videos`, in the folder `videos` beside the questions, or beside the questions themselves,
with or without their ending.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, id_text, shown
from lavis.video.frames import PICTURE_ENDINGS
from sevila_data.dataset import RawDataset, RawSplit, Row, RowConverter, option_fields
from sevila_data.own_rows import (
    FROM_1,
    OwnRow,
    answer_index,
    own_row,
    parsed_cell,
    readable_rows,
    readings,
    require_columns,
    ways_of,
)

_PASSED_ON = ("question", "query", "start", "end", "duration", "source")
_LISTS = ("relevant_windows", "windows", "relevant_clip_ids", "saliency_scores")
_ENDINGS = ("json", "jsonl", "csv", "tsv", "parquet")
_NO_VIDEOS = {*(f".{ending}" for ending in _ENDINGS), ".txt", ".md", ".yaml", ".srt", ".vtt"}
_TYPE = "CUSTOM"


def converter(raw: RawSplit) -> RowConverter:
    """Return the converter of a split."""
    folder = videos_folder(raw.folder, raw.videos)
    videos = find_videos(folder)
    ways = _answer_ways(raw)

    def convert(record: Record, index: int) -> Row:
        row = own_row(record)
        record = row.record
        kind = record.text("type") if record.has("type") else _TYPE
        searches = record.has("query")
        return {
            "video": _video(record, folder, videos),
            "qid": record.id("qid") if record.has("qid") else f"{kind}_{raw.name}_{index}",
            "type": kind,
            **{field: record.value(field) for field in _PASSED_ON if record.has(field)},
            **{field: _list(record, field) for field in _LISTS if record.has(field)},
            **({} if searches else option_fields(row.options) | _answer(row, ways, raw)),
        }

    return convert


def _answer_ways(raw: RawSplit) -> frozenset[str]:
    """Read the split once to see which columns it has, and how its answers are written."""
    every: list[OwnRow] = []
    for file in raw.files:
        rows = readable_rows(file)
        require_columns(file, rows, "video")
        require_columns(file, rows, "question", "query")
        require_columns(file, rows, "options", "query")
        every += rows
    return ways_of(every)


def _answer(row: OwnRow, ways: frozenset[str], raw: RawSplit) -> Row:
    answer = answer_index(row, ways)
    if answer is None:
        raw.notes["no answer given: the question can be asked but not measured"] += 1
        return {}
    if FROM_1 in readings(row) and FROM_1 in ways:
        raw.notes["the answer is a number that counts from 1, as the columns of options do"] += 1
    return {"answer": answer}


def videos_folder(raw: Path, videos: Path | None) -> Path:
    """Return where the videos lie: the folder that is named, or `videos` beside the questions, or beside them."""
    if videos is not None:
        return videos
    beside = raw / "videos"
    return beside if beside.is_dir() else raw


def find_videos(folder: Path) -> Mapping[str, list[str]]:
    """List the video files and folders of frames under a folder.

    Returns:
        For each name, with and without its ending, the names with ending that it may mean.

    Raises:
        AnnotationError: there is no such folder.
    """
    if not folder.is_dir():
        raise AnnotationError(f"there is no folder of videos {folder}; name it with --videos")
    found: dict[str, set[str]] = defaultdict(set)
    for path in folder.rglob("*"):
        if path.suffix.lower() in _NO_VIDEOS or path.name.startswith(".") or path.is_dir():
            continue
        video = path.parent if path.suffix.lower() in PICTURE_ENDINGS else path
        name = video.relative_to(folder)
        found[name.as_posix()].add(name.as_posix())
        if video is path:
            found[name.with_suffix("").as_posix()].add(name.as_posix())
    return {name: sorted(meant) for name, meant in found.items()}


def _video(record: Record, folder: Path, videos: Mapping[str, list[str]]) -> str:
    given = Path(record.name("video").strip())
    name = (given.relative_to(folder) if given.is_relative_to(folder) else given).as_posix()
    # As Windows separates folders, and as pandas writes a number beside empty cells.
    forms = (name, name.replace("\\", "/"), id_text(name) or name)
    name = next((form for form in forms if form in videos), name)
    meant = videos.get(name, [])
    if not meant:
        raise record.error("video", f"there is no video {shown(name)} in {folder}; add it or leave its questions out")
    if len(meant) > 1:
        raise record.error("video", f"{shown(name)} may be {' or '.join(meant)}; write it with its ending")
    without_ending = Path(name).with_suffix("").as_posix()
    return without_ending if videos.get(without_ending) == meant else name


def _list(record: Record, field: str) -> Any:
    value = record.value(field)
    if not isinstance(value, str):
        return value
    parsed = parsed_cell(value)
    if parsed is None:
        raise record.error(field, f"{shown(value)} is not a list such as [[2, 6], [20, 40]]")
    return parsed


DATASET = RawDataset(
    "custom",
    {
        "train": tuple(f"train.{ending}" for ending in _ENDINGS),
        "val": tuple(f"{name}.{ending}" for name in ("val", "questions") for ending in _ENDINGS),
        "test": tuple(f"test.{ending}" for ending in _ENDINGS),
    },
    converter,
)
