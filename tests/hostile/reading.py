"""Reads every file of a folder, each in a process of its own, and says what came of it, one JSON line for each.

Run as a script: what is measured is a process that reads videos and does nothing else.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from lavis.common.errors import VideoError
from lavis.video import open_video
from lavis.video import pyav as pyav  # imported once, not by every child

_GIVEN_UP_AFTER_S = 120  # by the clock, for what waits without working
_GUARD_BYTES = 6 << 30  # for the machine's sake; what is promised is measured


def read_in_child(path: Path) -> dict[str, Any]:
    """Read a file in a forked process; return its outcome, seconds and peak of resident memory.

    The seconds are those of all its threads at work, which do not depend on what else the machine does.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(_GIVEN_UP_AFTER_S)  # ends the process even where it hangs inside FFmpeg
        resource.setrlimit(resource.RLIMIT_DATA, (_GUARD_BYTES, _GUARD_BYTES))
        os.write(writing, _outcome(path).encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pipe.read().decode()
    _, status, usage = os.wait4(child, 0)
    return {
        "name": path.name,
        "outcome": outcome,
        "ended_by": os.waitstatus_to_exitcode(status),
        "seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": usage.ru_maxrss // 1024,
    }


def _outcome(path: Path) -> str:
    try:
        with open_video(path) as video:
            count = video.info.num_frames
            batch = video.read(sorted({0, count // 3, 2 * count // 3, count - 1}), size=64)
            return f"frames {batch.frames.shape[1:]} {video.info.duration_s:.3g} s {video.info.fps:.3g} fps"
    except VideoError as error:
        message = str(error)
        return f"VideoError {message}" if "\n" not in message else f"two lines: {message!r}"
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).iterdir()):
        print(json.dumps(read_in_child(file)), flush=True)
