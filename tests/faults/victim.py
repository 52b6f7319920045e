"""Trains as `train.py` does, and comes to harm at a chosen moment.

Forks what it starts: one process loads the libraries once, and every start after that takes a moment. Arguments: a JSON
file with a list of starts, each of them
`{"recipe": path, "options": [...], "processes": n, "harm": {...} or null, "out": file}`; what each process wrote to its
error output goes to `out`, and exit codes (negative: the signal) are printed, one JSON list a start.

The product knows nothing of this: harm comes from wrapping public seams that every run passes.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lavis.cli.main import main
from lavis.common import distributed
from lavis.runners import checkpoint, trainer
from lavis.tasks import predictions

# What every run imports only when it comes to it.
_LOADED_ONCE = (
    "lavis.runners.build",
    "lavis.models.sevila.loading",
    "lavis.video",
    "lavis.datasets.builder",
)

# How long a process may outlive one that has ended; on a busy machine, ending takes seconds.
_OUTLIVE_S = 60.0

# Where a process comes to harm: the function that every run passes, and whether before or after it has run.
SEAMS: dict[str, tuple[Any, str]] = {
    "meet": (distributed, "join_world"),
    "step": (trainer.Updater, "apply"),
    "accumulate": (trainer.Updater, "accumulate"),
    "begin_save": (checkpoint.CheckpointStore, "begin"),
    "finish_save": (checkpoint.CheckpointStore, "finish"),
    "validate": (trainer.Runner, "validate"),
    "finish": (trainer.Runner, "finish"),
    "score": (predictions.ChoiceAsker, "ask"),
}


def suffer(kind: str, part: Any = None) -> None:
    """Let harm come to this process, or to what the part that is under way holds."""
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    elif kind == "memory":
        raise MemoryError
    elif kind == "file_size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    elif kind == "nan":
        next(iter(part._parameters())).data.fill_(float("nan"))
    elif kind in ("kill_reader", "stop_reader"):
        for reader in multiprocessing.active_children():
            os.kill(reader.pid or 0, signal.SIGKILL if kind == "kill_reader" else signal.SIGSTOP)
    else:
        raise OSError(int(kind), os.strerror(int(kind)), "somewhere")


def arm(harm: dict[str, Any], rank: int) -> None:
    """Let the `at`-th call of a seam (from 1) harm this process, `when` being before or after it."""
    if rank != harm.get("rank", 0):
        return
    owner, name = SEAMS[harm["seam"]]
    whole: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def harmed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == harm["at"] and harm["when"] == "before":
            suffer(harm["kind"], *args[:1])
        found = whole(*args, **kwargs)
        if calls == harm["at"] and harm["when"] == "after":
            suffer(harm["kind"], *args[:1])
        return found

    setattr(owner, name, harmed)


def train(start: dict[str, Any], rank: int) -> None:
    """Be one process of a run, and end with its exit code."""
    out = os.open(start["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    # A run must not go on by what a process happens to share with the one before it.
    random.seed()
    if start.get("harm"):
        arm(start["harm"], rank)
    command = [start.get("command", "train"), "--cfg-path", start["recipe"], "--options", *start["options"]]
    code = main(command)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def join(rank: int, processes: int, port: int) -> None:
    """Let this process find the others, as torchrun would."""
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def run(start: dict[str, Any]) -> list[int]:
    """Start all processes of a run, and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(start["processes"]):
        child = os.fork()
        if not child:
            try:
                os.setsid()
                join(rank, start["processes"], port)
                train(start, rank)
            finally:
                # Only reached by an error that `main` did not turn into a line.
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    codes = ended(children, patience_s=start.get("patience_s", 120))
    wait_for_the_last(children)
    return codes


def ended(children: list[int], *, patience_s: float) -> list[int]:
    """Wait for processes; those that take too long, or outlive another for long, are killed, and get SIGALRM's code."""
    deadline, codes = time.monotonic() + patience_s, dict.fromkeys(children, -signal.SIGALRM)
    waiting = list(children)
    while waiting and time.monotonic() < deadline:
        for child in list(waiting):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                waiting.remove(child)
                codes[child] = os.waitstatus_to_exitcode(status)
                deadline = min(deadline, time.monotonic() + _OUTLIVE_S)
        time.sleep(0.01)
    for child in waiting:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [codes[child] for child in children]


def wait_for_the_last(sessions: list[int]) -> None:
    """Wait for the processes that others have started; to leave one behind is an error."""
    deadline = time.monotonic() + _OUTLIVE_S
    while found := living(sessions):
        assert time.monotonic() < deadline, f"left behind: {found}"
        time.sleep(0.01)


def living(sessions: list[int]) -> list[str]:
    """The processes of sessions, where the system tells."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


if __name__ == "__main__":
    if sys.argv[1] == "--under-torchrun":
        only = json.loads(Path(sys.argv[2]).read_text())
        # The process that torchrun starts in place of a dead one is not harmed again.
        again = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
        train({**only, "harm": None} if again else only, int(os.environ["RANK"]))
    for module in _LOADED_ONCE:
        importlib.import_module(module)
    for one in json.loads(Path(sys.argv[1]).read_text()):
        print(json.dumps(run(one)), flush=True)
