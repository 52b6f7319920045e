import errno
import os
import signal

import pytest
import torch

from lavis.cli.main import reported
from lavis.common.distributed import World
from lavis.common.errors import FaultError, TerminatedError, UserError
from lavis.runners.faults import Notice, explained, shared_failure

_GO_ON = "go on from what is saved with run.resume=auto"


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "out/a")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory: use a smaller run.batch_size_train (a run that goes on keeps its sam"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: use a smaller run.batch_size_train "),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory"), "out of memory: "),
        (full_disk(), f"cannot use out/a: the disk is full (No space left on device); mend it, then {_GO_ON}"),
        (OSError(errno.EROFS, "Read-only file system"), f"Read-only file system; mend it, then {_GO_ON}"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "a process that reads videos died"),
        (RuntimeError("DataLoader timed out after 3 seconds"), "a process that reads videos died or hangs ("),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            "a process that reads videos died or hangs",
        ),
        (torch.distributed.DistBackendError("NCCL error"), "another process of this run died or hangs (NCCL error)"),
    ],
)
def test_a_fault_is_said_in_one_line(error: Exception, line: str) -> None:
    with pytest.raises(FaultError) as found, explained():
        raise error
    assert str(found.value).startswith(line)
    assert "\n" not in str(found.value)
    assert found.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Caught RuntimeError in DataLoader worker process 0."),
        RuntimeError("gloo"),  # without other processes there is nobody to blame
        FileNotFoundError(errno.ENOENT, "No such file"),
        UserError("a wrong path"),
        FaultError("already said"),
    ],
)
def test_anything_else_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as found, explained():
        raise error
    assert found.value is error


class Pair(World):
    """The first of two processes, the other of which says what it is told to."""

    said: str | None = None

    def gather(self, value: object) -> list[object]:
        return [value, self.said]


def test_a_failure_of_one_process_ends_all_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "said", "the disk is full")
    with pytest.raises(FaultError, match=r"^the disk is full$"), shared_failure(Pair(size=2)):
        pass
    with pytest.raises(OSError, match="No space left"), shared_failure(Pair(size=2)):
        raise full_disk()
    monkeypatch.setattr(Pair, "said", None)
    with shared_failure(Pair(size=2)):
        pass


def test_notice_ends_what_may_be_cut_short_and_waits_for_the_rest() -> None:
    earlier = signal.getsignal(signal.SIGTERM)
    notice = Notice()
    with notice.listening():
        with notice.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert notice.is_given
        with pytest.raises(TerminatedError, match="asked to end"):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is earlier


@pytest.mark.parametrize("before", [True, False], ids=["came before", "comes within"])
def test_notice_ends_at_once_what_is_worth_nothing_half_done_within_the_rest(before: bool) -> None:
    notice, reached = Notice(), []

    def measure() -> None:
        with notice.heeded():
            reached.append("inside")
            os.kill(os.getpid(), signal.SIGTERM)

    with notice.listening(), notice.deferred():
        if before:
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(TerminatedError, match="asked to end"):
            measure()
        os.kill(os.getpid(), signal.SIGTERM)
    assert reached == ([] if before else ["inside"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a\nb"), 2, "error: a b\n"),
        (FaultError("the disk is full"), 1, "error: the disk is full\n"),
        (TerminatedError("asked to end"), 143, "terminated: asked to end\n"),
    ],
)
def test_exit_codes(error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error

    assert reported(fail) == code
    assert capsys.readouterr().err == line
