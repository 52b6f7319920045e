"""The example clips that come with the embedded model: held-out videos whose questions it answers right.

They are chosen because it answers them; how often it does is what `benchmarks/MINIATURE.md` is for.
`python -m sevila_data.miniature.clips --output sevila_checkpoints/clips`
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lavis.common.errors import UserError
from lavis.common.files import write_text
from lavis.models.loading import LoadedModel, load_model
from sevila_data.miniature.dataset import SPLITS, question_rows, videos_of
from sevila_data.miniature.measure import NUM_FRAMES
from sevila_data.miniature.questions import QUESTIONS_PER_VIDEO
from sevila_data.miniature.render import write_clip

ZOOM = 4


def choose_clips(
    model: LoadedModel, folder: Path, *, seed: int, num_clips: int = 3, questions_per_clip: int = 3
) -> None:
    """Write the first test videos of which the model answers enough questions right, and those questions.

    Raises:
        UserError: the test split has too few of them.
    """
    count = SPLITS["test"]
    rows = question_rows("test", count, seed=seed)
    chosen: list[dict[str, Any]] = []
    heard: set[str] = set()  # the same question about two clips would be hard to tell apart
    for number, video in enumerate(videos_of("test", count, seed=seed)):
        path = folder / f"{video.name}.mp4"
        write_clip(path, video, zoom=ZOOM)
        asked = rows[number * QUESTIONS_PER_VIDEO : (number + 1) * QUESTIONS_PER_VIDEO]
        new = [row for row in asked if row["question"] not in heard]
        right = _answered_right(model, path, new)[:questions_per_clip]
        if len({row["type"] for row in right}) < questions_per_clip:
            path.unlink()
            continue
        heard |= {row["question"] for row in right}
        chosen.append({"video": path.name, "questions": right})
        if len(chosen) == num_clips:
            write_text(folder / "questions.json", json.dumps(chosen, indent=2) + "\n")
            return
    raise UserError(f"only {len(chosen)} test videos have {questions_per_clip} questions answered right; train longer")


def _answered_right(model: LoadedModel, path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the questions that are answered right from a keyframe in their window, one of each type."""
    watched = model.watch(path, num_frames=NUM_FRAMES)
    right: dict[str, dict[str, Any]] = {}
    for row in rows:
        options = [row[f"a{place}"] for place in range(row["num_option"])]
        answer = watched.ask(row["question"], options)
        start, end = row["windows"][0]
        seen = ((answer.keyframes.times_s >= start) & (answer.keyframes.times_s <= end)).any()
        if answer.index == row["answer"] and seen:
            found = {"question": row["question"], "options": options, "answer": row["answer"]}
            right.setdefault(row["type"], {**found, "window": [start, end], "type": row["type"]})
    return list(right.values())


def main() -> int:
    """Choose clips for the embedded model, or for another."""
    parser = argparse.ArgumentParser(description="Write example clips that a model answers right.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    choose_clips(load_model("sevila", given.model, device="cpu"), given.output, seed=given.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
