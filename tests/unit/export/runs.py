"""Writes what an evaluation leaves in its folder, with figures to choose."""

import json
from pathlib import Path
from typing import Any

NEXTQA_QUESTIONS = 4996


def estimate(percent: float) -> dict[str, float]:
    return {"percent": percent, "low": percent - 1, "high": percent + 1, "questions": 1}


def accuracy(overall: float) -> dict[str, Any]:
    """Figures that differ from place to place, so that a test can tell which was read."""
    return {
        "overall": estimate(overall),
        "mean_of_types": estimate(overall - 5),
        "by_group": {name: estimate(overall + add) for name, add in (("Tem", 1), ("Cau", 2), ("Des", 3))},
        "by_type": {
            name: estimate(overall + add)
            for name, add in (("Interaction", 4), ("Sequence", 5), ("Prediction", 6), ("Feasibility", 7))
        },
    }


def write_run(folder: Path, *, overall: float = 60.0, **changes: Any) -> Path:
    """Write `metrics.json` of a run that measures SeViLA zero-shot on NExT-QA, except for the changes."""
    frames = {"reader": "joint", "selector": "localizer", "num_frames": 32, "frame_num": 4, "keyframes": "frame_num"}
    metrics: dict[str, Any] = {
        "kind": "questions",
        "dataset": "nextqa",
        "split": "val",
        "model": "sevila_flant5xl",
        "weights": {"status": "trained", "note": ""},
        "finetuned": [],
        "recipe": "zeroshot_sevila",
        "questions": NEXTQA_QUESTIONS,
        "unreadable": 0,
        "without_answer": 0,
        "cut": 0,
        "accuracy": accuracy(overall),
        **changes,
        "frames": {**frames, **changes.get("frames", {})},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
