"""Your own videos and questions: `train`, `val` and `test`, each `.json`, `.jsonl` or `.csv`; `questions.*` is val.

The fields are the schema's, with less to write: `options` may be a list instead of a0, a1, ...; `answer` may be an
index, a letter, or the option's text; `qid` and `type` may be left out. Videos are looked for in `--videos`, in the
folder `videos` beside the questions, or beside the questions themselves, with or without their ending.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, shown
from lavis.processors.video.frame_names import PICTURE_ENDINGS
from sevila_data.dataset import RawDataset, RawSplit, Row, RowConverter, option_fields

_PASSED_ON = ("question", "query", "start", "end", "duration", "relevant_clip_ids", "saliency_scores", "source")
_WINDOWS = ("relevant_windows", "windows")
_NO_VIDEOS = {".json", ".jsonl", ".csv", ".txt", ".md", ".yaml", ".srt", ".vtt"}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TYPE = "CUSTOM"


def converter(raw: RawSplit) -> RowConverter:
    """Return the converter of a split."""
    folder = videos_folder(raw.folder, raw.videos)
    videos = find_videos(folder)

    def convert(record: Record, index: int) -> Row:
        filled = {name: value for name, value in record.fields.items() if value is not None and value != ""}
        record = Record(filled, record.path, record.number, record.unit)
        kind = record.text("type") if record.has("type") else _TYPE
        return {
            "video": _video(record, folder, videos),
            "qid": record.name("qid") if record.has("qid") else f"{kind}_{raw.name}_{index}",
            "type": kind,
            **{field: record.value(field) for field in _PASSED_ON if record.has(field)},
            **{field: _windows(record, field) for field in _WINDOWS if record.has(field)},
            **({} if record.has("query") else _choice_fields(record)),
        }

    return convert


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
    given = Path(record.name("video"))
    name = (given.relative_to(folder) if given.is_relative_to(folder) else given).as_posix()
    meant = videos.get(name, [])
    if not meant:
        raise record.error("video", f"there is no video {shown(name)} in {folder}; add it or leave its questions out")
    if len(meant) > 1:
        raise record.error("video", f"{shown(name)} may be {' or '.join(meant)}; write it with its ending")
    without_ending = Path(name).with_suffix("").as_posix()
    return without_ending if videos.get(without_ending) == meant else name


def _windows(record: Record, field: str) -> Any:
    value = record.value(field)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise record.error(field, f"{shown(value)} is not a list such as [[2, 6], [20, 40]]") from None


def _choice_fields(record: Record) -> Row:
    options = record.fields.get("options")
    if options is None:
        options = []
        while record.has(f"a{len(options)}"):
            options.append(record.value(f"a{len(options)}"))
    if not isinstance(options, list):
        raise record.error("options", f"{shown(options)} is not a list of texts")
    texts = [str(option) if isinstance(option, (int, float)) else option for option in options]
    answer = {"answer": _answer(record, texts)} if record.has("answer") else {}
    return {**option_fields(texts), **answer}


def _answer(record: Record, options: list[Any]) -> int:
    value = record.value("answer")
    if not isinstance(value, str):
        return record.whole("answer")
    value = value.strip()
    meant = {index for index, option in enumerate(options) if option == value}
    if value.isdecimal() and int(value[:4]) < len(options):
        meant.add(int(value))
    if value.upper() in _LETTERS[: len(options)] and len(value) == 1:
        meant.add(_LETTERS.index(value.upper()))
    if len(meant) != 1:
        problem = "is none of the options" if not meant else "may mean several options"
        raise record.error("answer", f"{shown(value)} {problem}; give an index from 0, a letter from A, or its text")
    return meant.pop()


DATASET = RawDataset(
    "custom",
    {
        "train": ("train.json", "train.jsonl", "train.csv"),
        "val": ("val.json", "val.jsonl", "val.csv", "questions.json", "questions.jsonl", "questions.csv"),
        "test": ("test.json", "test.jsonl", "test.csv"),
    },
    converter,
)
