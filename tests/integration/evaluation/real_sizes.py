"""Raw annotation files as large as the released ones: as many questions of each type, about as many videos.

The texts are invented. NExT-QA, VLEP and QVHighlights were counted in their releases; the numbers of questions of STAR,
How2QA and TVQA are those that others state, and their numbers of videos are a guess.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis.datasets.annotations import read_annotations
from tests.integration.evaluation.benchmarks import write_frames
from tests.videos import write_video

WORDS = ("the dog", "a boat", "the old man", "a red ball", "the kitchen", "a boy")
FRAME_FOLDERS = ("tvqa",)


@dataclass(frozen=True)
class Size:
    """How large a split is.

    Attributes:
        types: how many questions of each type; ids start with it.
        videos: how many videos they are about.
    """

    types: dict[str, int]
    videos: int

    @property
    def questions(self) -> int:
        return sum(self.types.values())


_NEXTQA_VAL = {"CH": 683, "CW": 1924, "DC": 177, "DL": 295, "DO": 305, "TC": 663, "TN": 895, "TP": 54}
_NEXTQA_TEST = {"CH": 1173, "CW": 3329, "DC": 322, "DL": 483, "DO": 600, "TC": 1165, "TN": 1399, "TP": 93}
_STAR_VAL = {"Interaction": 2398, "Sequence": 3586, "Prediction": 624, "Feasibility": 490}
SIZES: dict[str, dict[str, Size]] = {
    "nextqa": {"val": Size(_NEXTQA_VAL, 570), "test": Size(_NEXTQA_TEST, 1000)},
    "star": {"val": Size(_STAR_VAL, 900)},
    "how2qa": {"val": Size({"HOW2QA": 3115}, 1500)},
    "tvqa": {"val": Size({"TVQA": 15253}, 2179)},
    "vlep": {"val": Size({"VLEP": 4392}, 1561), "test": Size({"VLEP": 4192}, 1493)},
    "qvh": {"val": Size({"QVHighlight": 1550}, 1519), "test": Size({"QVHighlight": 1542}, 1529)},
}


def write_raw(name: str, folder: Path) -> Path:
    """Write a benchmark's own files, in the real sizes."""
    folder.mkdir(parents=True)
    offset = 0  # no id of one split is one of another, as in the releases
    for split, size in SIZES[name].items():
        _WRITERS[name](folder, split, list(_questions(size, offset)))
        offset += size.questions
    return folder


def write_videos(name: str, *, data: Path, splits: tuple[str, ...]) -> None:
    """Give every video that the prepared splits ask about its name; all of them are one file."""
    film = data / "film"
    if name in FRAME_FOLDERS:
        write_frames(film)
    else:
        film = data / "film.mp4"
        write_video(film, num_frames=150 if name == "qvh" else 32, fps=1 if name == "qvh" else 4)
    for row in (row for split in splits for row in read_annotations(data / name / f"{split}.json").rows):
        home = data / (row.source if row.source == "tvqa" else name) / "videos"
        video = home / f"{row.question.video}{film.suffix}"
        video.parent.mkdir(parents=True, exist_ok=True)
        if not video.exists():
            video.symlink_to(film)


@dataclass(frozen=True)
class _Question:
    number: int
    kind: str
    video: int

    @property
    def text(self) -> str:
        return f"what does {WORDS[self.number % 6]} do near {WORDS[self.number % 5]}"

    def options(self, count: int) -> list[str]:
        return [f"{WORDS[(self.number + place) % 6]} {place}" for place in range(count)]

    def times(self) -> tuple[float, float]:
        """The same for all questions about a video, which are then asked together."""
        return 0.5 + self.video % 3, 5.25 + self.video % 3


def _questions(size: Size, offset: int) -> Iterator[_Question]:
    kinds = Counter(size.types).elements()
    for number, kind in enumerate(kinds, start=offset):
        yield _Question(number, kind, offset + number % size.videos)


def _write_nextqa(folder: Path, split: str, questions: list[_Question]) -> None:
    header = (
        "video",
        "frame_count",
        "width",
        "height",
        "question",
        "answer",
        "qid",
        "type",
        "a0",
        "a1",
        "a2",
        "a3",
        "a4",
    )
    with (folder / f"{split}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for one in questions:
            about = (one.video, 32, 96, 64, one.text, one.number % 5, one.number, one.kind)
            writer.writerow([*about, *one.options(5)])
    paths = folder / "map_vid_vidorID.json"
    known = json.loads(paths.read_text()) if paths.exists() else {}
    paths.write_text(
        json.dumps({**known, **{str(one.video): f"{1000 + one.video % 90}/{one.video}" for one in questions}})
    )


def _write_star(folder: Path, split: str, questions: list[_Question]) -> None:
    rows = []
    for one in questions:
        choices = [{"choice_id": place, "choice": text} for place, text in enumerate(one.options(4))]
        qid, (start, end) = f"{one.kind}_T1_{one.number}", one.times()
        answer = choices[one.number % 4]["choice"]
        about = {"question_id": qid, "question": one.text, "video_id": f"V{one.video}", "start": start, "end": end}
        rows.append({**about, "answer": answer, "choices": choices})
    (folder / f"STAR_{split}.json").write_text(json.dumps(rows))


def _tvqa_row(one: _Question, *, options: int) -> dict[str, Any]:
    texts = {f"a{place}": text for place, text in enumerate(one.options(options))}
    start, end = one.times()
    about = {"qid": one.number, "q": one.text, "ts": f"{start}-{end}", "vid_name": f"s01e01_seg02_clip_{one.video}"}
    return {**about, **texts, "answer_idx": one.number % options}


def _write_vlep(folder: Path, split: str, questions: list[_Question]) -> None:
    rows = []
    for one in questions:
        # A quarter of the videos come from YouTube.
        name = f"yt{one.video}_00:04:00_00:05:00_ep" if one.video % 4 == 0 else f"s03e09_clip_{one.video}_ep"
        known = {"answer": one.number % 2} if split == "val" else {}
        rows.append({"example_id": one.number, "vid_name": name, "ts": one.times(), "events": one.options(2), **known})
    _write_lines(folder / f"vlep_{'dev' if split == 'val' else split}_release.jsonl", rows)


def _write_qvh(folder: Path, split: str, questions: list[_Question]) -> None:
    rows = []
    for one in questions:
        first = one.video % 30
        end = 2 * first + 4 if one.number % 2 else 150
        clips = [first, first + 1]
        about = {"qid": one.number, "query": one.text, "duration": 150, "vid": f"v{one.video}_60.0_210.0"}
        truth = {"relevant_windows": [[2 * first, end]], "relevant_clip_ids": clips}
        rows.append({**about, **truth, "saliency_scores": [[one.number % 5, 2, 3], [4, 4, 4]]})
    _write_lines(
        folder / ("highlight_test_with_gt.jsonl" if split == "test" else f"highlight_{split}_release.jsonl"), rows
    )


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


_Writer = Callable[[Path, str, list[_Question]], None]
_WRITERS: dict[str, _Writer] = {
    "nextqa": _write_nextqa,
    "star": _write_star,
    "how2qa": lambda folder, split, questions: _write_lines(
        folder / f"how2qa_{split}_release.jsonl", [_tvqa_row(one, options=4) for one in questions]
    ),
    "tvqa": lambda folder, split, questions: _write_lines(
        folder / f"tvqa_{split}.jsonl", [_tvqa_row(one, options=5) for one in questions]
    ),
    "vlep": _write_vlep,
    "qvh": _write_qvh,
}
