"""A data set of the bundled clips, and frames for its questions, for either harness."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lavis.selection.frames_file import ChosenFrames, write_frames
from lavis.video import open_video
from tests.architecture.source import ROOT

CLIPS = ROOT / "sevila_checkpoints" / "clips"
TASK, SPLIT, NUM_QUESTIONS = "clips", "test", 9
Picture = npt.NDArray[np.uint8]


def question_rows() -> list[dict[str, str]]:
    """The questions about the bundled clips, three about each, by the options' letters."""
    rows = []
    for clip in json.loads((CLIPS / "questions.json").read_text(encoding="utf-8")):
        for number, asked in enumerate(clip["questions"]):
            options = [f"{letter}. {option}" for letter, option in zip("ABCDE", asked["options"], strict=True)]
            row = {
                "question_id": f"{Path(clip['video']).stem}_{number}",
                "video": str(CLIPS / clip["video"]),
                "question": asked["question"],
                "options": options,
                "answer": "ABCDE"[asked["answer"]],
            }
            rows.append(row)
    return rows


def frames_of(doc_id: int) -> list[int]:
    """Frames that no two questions share, one to three of them."""
    return [4 * doc_id + step for step in (3, 39, 70)][: 1 + doc_id % 3]


def write_chosen(path: Path, *, without: str = "") -> Path:
    """Write the frames of each question but one; the last of a clip is placed by seconds, the others by index."""
    chosen = []
    for doc_id, row in enumerate(question_rows()):
        with open_video(row["video"]) as video:
            times_s = tuple(video.times_s(frames_of(doc_id)).round(3).tolist())
        place = {"times_s": times_s} if doc_id % 3 == 2 else {"frame_idx": tuple(frames_of(doc_id))}
        chosen.append(ChosenFrames(task=TASK, split=SPLIT, question_id=row["question_id"], **place))
    write_frames(path, [one for one in chosen if one.question_id != without])
    return path


def decoded(doc_id: int) -> list[Picture]:
    """The pictures of a question, decoded by PyAV alone: every frame of these clips from the first on."""
    import av

    with av.open(question_rows()[doc_id]["video"]) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [pictures[index] for index in frames_of(doc_id)]


def equal(shown: list[Picture], expected: list[Picture]) -> bool:
    """Tell whether pictures are the same in every pixel."""
    return len(shown) == len(expected) and all(map(np.array_equal, shown, expected))
