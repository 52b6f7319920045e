"""A split that is awkward to share out: several questions a video, several clips of it, and a video that is missing."""

import json
from pathlib import Path
from typing import Any

from tests.integration.evaluation.benchmarks import options
from tests.videos import write_video

KINDS = ("TN", "CW", "DO")
MISSING = "gone"
# Questions about each (video, clip).
ASKED = {
    ("v0", None): 4,
    ("v1", None): 1,
    ("v0", (1.0, 3.0)): 2,
    (MISSING, None): 3,
    ("v1", (0.0, 2.0)): 1,
    ("v2", None): 2,
    ("v2", (2.0, 2.0)): 1,
}
NUM_QUESTIONS = sum(ASKED.values())


def write_questions(folder: Path) -> Path:
    """Write three videos and a split in which questions of one video do not stand together."""
    for name in ("v0", "v1", "v2"):
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        write_video(folder / "videos" / f"{name}.mp4", num_frames=40, fps=8)
    asked = [(turn, video, clip) for (video, clip), count in ASKED.items() for turn in range(count)]
    rows = [_row(number, video, clip) for number, (_, video, clip) in enumerate(sorted(asked, key=lambda one: one[0]))]
    (folder / "val.json").write_text(json.dumps(rows))
    return folder


def settings(data: Path, *, model: Path, output: Path, **run: object) -> list[str]:
    """Settings that point a NExT-QA recipe at the split."""
    return [
        *options("nextqa", model=model, output=output, **run),
        f"datasets.nextqa.build_info.videos.storage={data}/videos",
        f"datasets.nextqa.build_info.annotations.val.storage={data}/val.json",
    ]


def _row(number: int, video: str, clip: tuple[float, float] | None) -> dict[str, Any]:
    times = {"start": clip[0], "end": clip[1]} if clip else {}
    texts = {f"a{index}": f"{word} {'dog ' * (number % 4)}" for index, word in enumerate(("red", "green", "blue"))}
    kind = KINDS[number % len(KINDS)]
    question = f"What is {'very ' * number}near the boat"
    return {"video": video, "qid": f"{kind}_{number}", "question": question, "answer": number % 3, **texts, **times}
