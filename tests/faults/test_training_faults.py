"""Each fault ends a run promptly, with one clear line and its exit code, and the run goes on to the same end."""

import errno
from collections.abc import Mapping
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
        line: how the first process's last line must begin, or what it must hold.
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
        "error: a process that reads videos died or hangs (DataLoader worker",
        2,
        run={"num_workers": 1},
    ),
    "a reader that hangs": Fault(
        harm("validate", 1, kind="stop_reader", when="after"),
        [1],
        "error: a process that reads videos died or hangs (DataLoader timed out after 3.0 seconds",
        4,
        run={"num_workers": 1, "data_timeout_s": 3.0},
    ),
    "a process that dies": Fault(
        harm("step", 3, rank=1), [1, -9], "error: another process of this run died or hangs (", 2, processes=2
    ),
    # The one that hangs is killed by whoever started it, after `patience_s`.
    "a process that hangs": Fault(
        harm("step", 3, kind="hang", rank=1),
        [1, -14],
        "error: another process of this run died or hangs (",
        2,
        processes=2,
        run={"distributed_timeout_s": 4.0},
    ),
}
_PATIENCE_S = 40.0


@dataclass(frozen=True)
class Played:
    """What became of a fault: of the start that met it, and of the run after it went on."""

    codes: list[list[int]]
    said: list[str]
    saved: int
    left: dict[str, Any]


@pytest.fixture(scope="module")
def played(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """All faults, one after another; then their runs go on."""
    folder = tmp_path_factory.mktemp("faults")
    places = {"data": data, "model": model_folder, "patience_s": _PATIENCE_S}
    starts = [start("finetune", folder / f"whole_{count}", processes=count, **places) for count in (1, 2)]
    for number, fault in enumerate(FAULTS.values()):
        starts.append(
            start("finetune", folder / str(number), processes=fault.processes, harm=fault.harm, **places, **fault.run)
        )
    codes = play(starts, folder)
    found = {}
    outputs = [folder / str(number) for number in range(len(FAULTS))]
    lines = [said(output) for output in outputs]
    saved = [max((output / "checkpoints").glob("step_*")).name for output in outputs]
    again = play(
        [
            start("finetune", output, processes=fault.processes, **places, **fault.run)
            for output, fault in zip(outputs, FAULTS.values(), strict=True)
        ],
        folder,
    )
    for number, name in enumerate(FAULTS):
        left = outcome(outputs[number])
        found[name] = Played(
            [codes[2 + number], again[number]], lines[number], int(saved[number].removeprefix("step_")), left
        )
    for count in (1, 2):
        found[f"whole_{count}"] = Played([codes[count - 1]], [], 8, outcome(folder / f"whole_{count}"))
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_the_run_with_one_line_and_its_code(name: str, played: dict[str, Played]) -> None:
    fault, found = FAULTS[name], played[name]
    assert found.codes[0] == fault.codes
    # One line of each process that could say something.
    assert len(found.said) == sum(code >= 0 for code in fault.codes)
    assert any(fault.line in line for line in found.said)
    assert not any(line.startswith("Traceback") for line in found.said)
    assert found.saved == fault.saved


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_the_run_goes_on_to_the_same_end(name: str, played: dict[str, Played]) -> None:
    fault = FAULTS[name]
    assert played[name].codes[1] == [0] * fault.processes
    assert played[name].left == played[f"whole_{fault.processes}"].left


def test_an_output_that_cannot_be_written_to_is_said_at_once(data: Path, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "run"
    one = {**start("finetune", output, data=data, model=model_folder), "out": str(tmp_path / "run.out")}
    assert play([one], tmp_path) in ([[1]], [[2]])
    (line,) = said(tmp_path / "run")
    assert "Not a directory" in line
