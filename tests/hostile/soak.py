"""Asks about many different videos in one process, and says after each what the process holds, one JSON line each.

Run as a script: what is measured is a process that watches and answers and does nothing else.
"""

import gc
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import lavis
from tests.videos import write_video

SIZES = ((96, 64), (64, 96), (160, 120), (320, 240))
SUFFIXES = ("mp4", "mkv", "avi")


def held() -> dict[str, int]:
    """Return the process's resident memory in bytes, and its open files, threads and temporary files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "python_threads": threading.active_count(),
        "temporary": len(list(Path(tempfile.gettempdir()).rglob("*"))),
    }


def ask_about_video(model: Any, folder: Path, number: int) -> None:
    """Make the video of this number, ask about it, and remove it."""
    width, height = SIZES[number % len(SIZES)]
    path = folder / f"{number}.{SUFFIXES[number % len(SUFFIXES)]}"
    write_video(path, num_frames=20 + number % 40, width=width, height=height)
    video = model.watch(path, num_frames=8 + number % 9)
    video.ask(f"What happens in video {number}?", [f"thing {option}" for option in range(2 + number % 4)])
    video.find("a red circle")
    path.unlink()


if __name__ == "__main__":
    asked_model = lavis.load_model("sevila", "tiny", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        for video_number in range(int(sys.argv[1])):
            ask_about_video(asked_model, Path(name), video_number)
            print(json.dumps(held()), flush=True)
