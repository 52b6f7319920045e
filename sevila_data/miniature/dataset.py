"""Writing the miniature's data set: videos and annotations in the benchmarks' schema.

`python -m sevila_data.miniature.dataset FOLDER --seed 0` writes

    FOLDER/videos/{split}_{number}.mp4
    FOLDER/questions/{base,train,val,test}.json    multiple choice
    FOLDER/moments/{train,val,test}.json      queries with windows, as QVHighlights

The base split's pictures are what the stand-in for BLIP-2 is made from; its questions are for the embedded model alone.
They are seen by day, all others in the evening, so that the stages have another look to learn, as between BLIP-2's
pictures and videos.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lavis.common.types import Question, Span
from lavis.datasets.annotations import write_annotations
from sevila_data.dataset import option_fields
from sevila_data.miniature.questions import NUM_OPTIONS, moments_of, questions_about
from sevila_data.miniature.render import DAY, FPS, Light, write_clip
from sevila_data.miniature.world import WorldVideo, make_video

Row = dict[str, Any]

SPLITS = {"base": 600, "moments_train": 300, "moments_val": 30, "train": 300, "val": 30, "test": 60}
"""Videos of each split; no video is in two of them. Test videos have both questions and moment queries."""

EVENING = Light(hue_degrees=20.0)
"""The light of all videos but the base's."""

_QUESTION_FILES = {"base": "base", "train": "train", "val": "val", "test": "test"}
_MOMENT_FILES = {"moments_train": "train", "moments_val": "val", "test": "test"}
_VIDEO, _QUESTIONS, _MOMENTS = 0, 1, 2


def videos_of(split: str, count: int, *, seed: int) -> Iterator[WorldVideo]:
    """Draw the first `count` videos of a split; another count gives the same videos, more or fewer of them."""
    for number in range(count):
        yield make_video(f"{split}_{number:04d}", seed=_video_seed(split, number, seed, _VIDEO), fps=FPS)


def asked_about(
    split: str, number: int, video: WorldVideo, *, seed: int, num_options: int = NUM_OPTIONS
) -> list[Question]:
    """Make the questions about a split's video; another number of options gives the same questions with others."""
    return questions_about(video, seed=_video_seed(split, number, seed, _QUESTIONS), num_options=num_options)


def question_rows(split: str, count: int, *, seed: int) -> list[Row]:
    """Make the multiple-choice rows of a split."""
    rows = []
    for number, video in enumerate(videos_of(split, count, seed=seed)):
        for question in asked_about(split, number, video, seed=seed):
            rows.append(
                {
                    "video": video.name,
                    "qid": question.id,
                    "question": question.text,
                    **option_fields(question.options),
                    "answer": question.answer,
                    "duration": video.duration_s,
                    "windows": _pairs(question.windows or ()),
                    "type": question.kind,
                }
            )
    return rows


def moment_rows(split: str, count: int, *, seed: int) -> list[Row]:
    """Make the moment queries of a split."""
    rows = []
    for number, video in enumerate(videos_of(split, count, seed=seed)):
        found = moments_of(video, seed=_video_seed(split, number, seed, _MOMENTS))
        for place, (query, windows) in enumerate(found):
            rows.append(
                {
                    "video": video.name,
                    "qid": f"moment_{video.name}_{place}",
                    "query": query,
                    "duration": video.duration_s,
                    "relevant_windows": _pairs(windows),
                }
            )
    return rows


def write_dataset(folder: Path, *, seed: int, sizes: Mapping[str, int] = SPLITS, light: Light | None = None) -> None:
    """Write all videos that are not there yet, then the annotations.

    Args:
        sizes: videos of each split.
        light: of all videos; None is the day for the base's, and the evening.
    """
    for split, count in sizes.items():
        for video in videos_of(split, count, seed=seed):
            path = folder / "videos" / f"{video.name}.mp4"
            if not path.exists():
                write_clip(path, video, light=light or (DAY if split == "base" else EVENING))
    for split, file in _QUESTION_FILES.items():
        write_annotations(folder / "questions" / f"{file}.json", question_rows(split, sizes[split], seed=seed))
    for split, file in _MOMENT_FILES.items():
        write_annotations(folder / "moments" / f"{file}.json", moment_rows(split, sizes[split], seed=seed))


def main() -> int:
    """Write the data set to the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Write the miniature's videos and annotations.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by-day", action="store_true", help="all videos by day, as the embedded model knows them")
    arguments = parser.parse_args()
    write_dataset(arguments.folder, seed=arguments.seed, light=DAY if arguments.by_day else None)
    return 0


def _video_seed(split: str, number: int, seed: int, purpose: int) -> list[int]:
    return [seed, list(SPLITS).index(split), number, purpose]


def _pairs(windows: tuple[Span, ...]) -> list[list[float]]:
    return [[window.start_s, window.end_s] for window in windows]


if __name__ == "__main__":
    sys.exit(main())
