"""Each fault ends a run promptly, with one clear line and its exit code, and the run goes on to the same end."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.playing import harm, outcome, play, said, start

_GO_ON = "go on from what is saved with run.resume=auto"


@dataclass(frozen=True)
class Fault:
    """A fault, and what must come of it.

    Attributes:
        codes: exit codes of the processes.
        line: what a line on the error output must hold.
        saved: the step of the newest checkpoint.
    """

    harm: dict[str, Any]
    codes: list[int]
    line: str
    saved: int
    processes: int = 1
    run: Mapping[str, object] = field(default_factory=dict)


FAULTS = {
    "sigterm in a step": Fault(
        harm("step", 3, kind="terminate"), [143], "terminated: asked to end (SIGTERM) after iteration 3 of 8", 3
    ),
    "sigterm in a validation": Fault(
        harm("validate", 1, kind="terminate"), [143], "terminated: asked to end (SIGTERM); go on with", 4
    ),
    "sigterm to one process of two": Fault(
        harm("step", 3, kind="terminate", rank=1),
        [143, 143],
        "terminated: asked to end (SIGTERM) after iteration 3 of 8",
        3,
        processes=2,
    ),
    "disk full": Fault(
        harm("finish_save", 3, kind=str(errno.ENOSPC)),
        [1],
        "error: cannot use somewhere: the disk is full (No space left on device); mend it, then " + _GO_ON,
        4,
    ),
    "no room for a whole file": Fault(
        harm("begin_save", 2, kind="file_size", when="after"), [1], "File too large; mend it, then " + _GO_ON, 2
    ),
    "read-only output": Fault(
        harm("begin_save", 2, kind=str(errno.EROFS)),
        [1],
        "error: cannot use somewhere: Read-only file system; mend it, then " + _GO_ON,
        2,
    ),
    "disk full with two processes": Fault(
        harm("finish_save", 3, kind=str(errno.ENOSPC)), [1, 1], "No space left on device", 4, processes=2
    ),
    "a loss that is no number": Fault(
        harm("accumulate", 6, kind="nan"), [2], "error: the loss is nan; continue from the last checkpoint", 4
    ),
    "weights that are no numbers": Fault(
        harm("step", 6, kind="nan", when="after"), [2], "error: the weights are not finite after iteration 6", 4
    ),
    "out of memory": Fault(
        harm("accumulate", 3, kind="memory"), [1], "error: out of memory: use a smaller run.batch_size_train", 2
    ),
    "a reader that dies": Fault(
        harm("step", 3, kind="kill_reader", when="after"),
        [1],
        "error: a process that reads videos died or hangs (",
        2,
        run={"num_workers": 1},
    ),
    "a reader that hangs": Fault(
        harm("validate", 1, kind="stop_reader", when="after"),
        [1],
        "error: a process that reads videos died or hangs (DataLoader timed out after 20.0 seconds",
        4,
        run={"num_workers": 1, "data_timeout_s": 20.0},
    ),
    "a process that dies": Fault(
        harm("step", 3, rank=1), [1, -9], "error: another process of this run died or hangs (", 2, processes=2
    ),
    # The one that hangs is killed by whoever started it.
    "a process that hangs": Fault(
        harm("step", 3, kind="hang", rank=1),
        [1, -14],
        "error: another process of this run died or hangs (",
        2,
        processes=2,
        run={"distributed_timeout_s": 10.0, "patience_s": 60.0},
    ),
}
# Of those that need no long start, the ones that end a run in different ways.
SAMPLE = ("sigterm in a step", "disk full", "a loss that is no number", "a process that dies")


def check(names: Iterable[str], data: Path, model_folder: Path, folder: Path) -> None:
    """Play faults one after another, and then let their runs go on."""
    places = {"data": data, "model": model_folder}
    faults = {folder / name.replace(" ", "_"): FAULTS[name] for name in names}
    counts = sorted({fault.processes for fault in faults.values()})
    whole = [start("finetune", folder / f"whole_{count}", processes=count, **places) for count in counts]
    assert play(whole, folder) == [[0] * count for count in counts]
    expected = {count: outcome(folder / f"whole_{count}") for count in counts}
    runs = [(output, {"processes": fault.processes, **places, **fault.run}) for output, fault in faults.items()]
    codes = play([start("finetune", output, harm=faults[output].harm, **run) for output, run in runs], folder)
    for (output, fault), found in zip(faults.items(), codes, strict=True):
        lines = said(output)
        assert found == fault.codes, (output.name, lines)
        # One line of each process that could still say something.
        assert len(lines) == sum(code >= 0 for code in fault.codes), output.name
        assert any(fault.line in line for line in lines), (output.name, lines)
        assert not any(line.startswith("Traceback") for line in lines), output.name
        assert max((output / "checkpoints").glob("step_*")).name == f"step_{fault.saved:08d}", output.name
    again = play([start("finetune", output, **run) for output, run in runs], folder)
    for (output, fault), found in zip(faults.items(), again, strict=True):
        assert found == [0] * fault.processes, output.name
        assert outcome(output) == expected[fault.processes], output.name


def test_a_fault_ends_the_run_with_one_line_and_the_run_goes_on(data: Path, model_folder: Path, tmp_path: Path) -> None:
    check(SAMPLE, data, model_folder, tmp_path)


@pytest.mark.slow
def test_every_fault_ends_the_run_with_one_line_and_the_run_goes_on(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    check([name for name in FAULTS if name not in SAMPLE], data, model_folder, tmp_path)


def test_an_output_that_cannot_be_written_to_is_said_at_once(data: Path, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "run"
    one = {**start("finetune", output, data=data, model=model_folder), "out": str(tmp_path / "run.out")}
    assert play([one], tmp_path) == [[1]]
    (line,) = said(tmp_path / "run")
    assert "Not a directory" in line
