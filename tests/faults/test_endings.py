"""A process that is done or cannot go on ends at once, whatever would hold it up, and so do those that read for it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, all_python_files
from tests.faults.playing import harm, play, said, start

# An error holds what its frames held. Letting go of torch's process group may take for ever, and so may the
# interpreter's end.
_PROGRAM = """
import atexit, sys, threading, time
from lavis.cli.main import reported
from lavis.common.errors import *

class Group:
    def __del__(self):
        time.sleep(600)

def run():
    print("so far")
    {how}

atexit.register(time.sleep, 600)
threading.Thread(target=time.sleep, args=(600,)).start()
sys.exit(reported(run))
"""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("FaultError('the disk is full')", 1, "error: the disk is full"),
        ("UserError('no such file')", 2, "error: no such file"),
        ("TerminatedError('asked to end')", 143, "terminated: asked to end"),
        ("KeyboardInterrupt", 130, "interrupted"),
        ("ZeroDivisionError('a defect')", 1, "ZeroDivisionError: a defect"),
    ],
)
def test_one_of_several_processes_ends_when_it_has_said_why(error: str, code: int, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(how=f"group = Group(); raise {error}")],
        cwd=ROOT,
        env={**os.environ, "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "so far\n")
    assert done.stderr.splitlines()[-1] == line
    assert ("Traceback" in done.stderr) == (line == "ZeroDivisionError: a defect")


def test_one_of_several_processes_ends_when_it_is_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(how="return 0")],
        cwd=ROOT,
        env={**os.environ, "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "so far\n", "")


# What is under way when the first process comes to the end: an exchange that the second is late for.
_LATE = """
import sys, time, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from lavis.cli.main import reported
from lavis.common.distributed import join_world

def run():
    with join_world(device="cpu") as world:
        parallel = DistributedDataParallel(torch.nn.Linear(4, 4))
        total, gathered = torch.ones(1), [torch.zeros(1), torch.zeros(1)]
        if world.rank == 1:
            time.sleep(2)
        dist.all_gather(gathered, total, async_op=True)
    sys.stdout.write("ended\\n")  # at once, where print may let the other process write before the line's end
    return 0

sys.exit(reported(run))
"""


def test_processes_part_when_nothing_is_under_way_any_more(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(_LATE, encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "late.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    # Some versions of torch print what gloo has to say there too.
    assert (done.returncode, done.stdout.count("ended")) == (0, 2)


def test_one_of_several_processes_ends_with_its_code_where_nobody_listens() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(how="raise UserError('no such file')")],
        cwd=ROOT,
        env={**os.environ, "WORLD_SIZE": "2"},
        stdout=subprocess.DEVNULL,
        stderr=write_end,
        timeout=300,
        check=False,
    )
    os.close(write_end)
    assert done.returncode == 2


def test_a_process_that_is_never_met_is_waited_for_as_long_as_is_set(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    starts = []
    for rank in (0, 1):
        output, harmed = tmp_path / str(rank), harm("meet", 1, rank=rank)
        places = {"data": data, "model": model_folder}
        starts.append(start("finetune", output, processes=2, harm=harmed, distributed_timeout_s=8.0, **places))
    assert play(starts, tmp_path) == [[-9, 1], [1, -9]]
    for rank in (0, 1):
        (line,) = said(tmp_path / str(rank))
        assert line.startswith("error: another process of this run died or hangs (")


def test_readers_end_with_the_process_that_they_read_for(data: Path, model_folder: Path, tmp_path: Path) -> None:
    harmed = harm("step", 3, rank=0)
    one = start("finetune", tmp_path / "run", data=data, model=model_folder, processes=2, harm=harmed, num_workers=1)
    # `play` fails where a process is left behind.
    assert play([one], tmp_path) == [[-9, 1]]
    assert [line.partition("(")[0] for line in said(tmp_path / "run")] == [
        "error: another process of this run died or hangs "
    ]


def test_whatever_joins_others_ends_without_taking_the_interpreter_down() -> None:
    """Torch's threads may still hold what was exchanged, and abort where they free it in an interpreter that ends."""
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in all_python_files()}
    joining = {
        path: text for path, text in sources.items() if re.search(r"^[^#\n\"']*\bjoin_world\(", text, re.MULTILINE)
    }
    started = {path for path, text in joining.items() if '__name__ == "__main__"' in text}
    assert Path("benchmarks/scaling_worker.py") in started
    assert {path for path in started if "reported(" not in joining[path]} == set()
