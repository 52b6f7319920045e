"""Benchmarks as they come: raw annotation files prepared by the real command, and generated videos of their names."""

import json
import shutil
from pathlib import Path
from typing import Any

from lavis.cli.main import main
from lavis.common.files import configs_dir
from lavis.datasets.annotations import read_annotations
from tests.videos import numbered_picture, write_video

RAW = Path(__file__).parents[2] / "data" / "raw"
BENCHMARKS = ("nextqa", "star", "how2qa", "tvqa", "vlep", "qvh")
NUM_FRAMES = 6


def write_clips(folder: Path) -> Path:
    """Write the two films that all benchmarks' videos are copies of: 16 s, and 150 s for moment retrieval."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / "short.mp4", num_frames=64, fps=4)
    write_video(folder / "long.mp4", num_frames=150, fps=1)
    return folder


def write_benchmark(name: str, *, data: Path, clips: Path) -> Path:
    """Prepare a benchmark, and put the videos it asks about where its configuration looks for them."""
    assert main(["prepare", name, "--raw", str(RAW / name), "--out", str(data)]) == 0
    film = clips / ("long.mp4" if name == "qvh" else "short.mp4")
    for file in sorted((data / name).glob("*.json")):
        for row in read_annotations(file).rows:
            home = data / (row.source if row.source == "tvqa" else name) / "videos"
            video = home / str(row.question.video)
            if name == "tvqa":
                write_frames(video)
            else:
                video.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(film, video.with_name(f"{video.name}.mp4"))
    return data / name


def write_frames(folder: Path, *, count: int = 24) -> None:
    """Write a folder of frames, as TVQA gives its videos."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(numbered_picture(number, width=48, height=32)).save(folder / f"{number + 1:05d}.jpg")


def recipe(name: str, stage: str = "inference") -> Path:
    """The recipe, as users start it."""
    return configs_dir() / "sevila" / stage / f"{name}.yaml"


def options(name: str, *, model: Path, output: Path, split: str = "val", **run: object) -> list[str]:
    """Settings that make a recipe small; `run` are settings of its run section."""
    small = {"device": "cpu", "num_workers": 0, "test_splits": f"[{split}]", "output_dir": output, **run}
    return [
        f"model.model_type={model}",
        "model.dtype=fp32",
        "model.frame_num=2",
        f"datasets.{name}.vis_processor.eval.n_frms={NUM_FRAMES}",
        *(f"run.{key}={value}" for key, value in small.items()),
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Predictions without what differs from run to run: the time they took."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "cost")} for row in rows]
