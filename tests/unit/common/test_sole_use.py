"""Two runs never write to one folder."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lavis.common.errors import ConfigError
from lavis.common.files import sole_use

HOLD = """
import os, sys, time
from pathlib import Path
from lavis.common.files import sole_use

with sole_use(Path(sys.argv[1])):
    child = os.fork() if "--fork" in sys.argv else None
    if child != 0:
        print(child or "", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(folder: Path, *options: str) -> Iterator[tuple[int, str]]:
    """Let another process hold the folder; yields it and what it says."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *options], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.kill()


def use(folder: Path) -> None:
    with sole_use(folder):
        pass


def test_a_folder_is_refused_while_another_process_has_it_and_free_once_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with held(folder) as (pid, _), pytest.raises(ConfigError, match=rf"^{folder} is in use by process {pid} on \S+; "):
        use(folder)
    use(folder)


def test_what_a_killed_run_has_forked_does_not_keep_the_folder(tmp_path: Path) -> None:
    with held(tmp_path, "--fork") as (_, child):
        pass
    try:
        os.kill(int(child), 0)  # it is still there
        use(tmp_path)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_folder_that_cannot_be_made_is_left_to_whoever_writes_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    use(tmp_path / "file" / "run")


def test_one_after_the_other_is_no_clash(tmp_path: Path) -> None:
    fresh = multiprocessing.get_context("spawn")
    for _ in range(2):
        process = fresh.Process(target=use, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == 0
