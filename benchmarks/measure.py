"""Measuring time, memory and the machine's speed; what is compared runs by turns, so that other load hits all alike."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lavis.models.pipeline import Timings

Work = Callable[[], Any]
_RATE_ROWS, _RATE_WIDTH = 2048, 2048


def set_threads(threads: int | None) -> None:
    """Let torch compute with this many threads; None leaves its own choice."""
    if threads:
        torch.set_num_threads(threads)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spent_s(device: torch.device) -> float:
    """Return the time spent so far: on the CPU the processor's, which other jobs disturb less, else the clock's."""
    if device.type == "cpu":
        return time.process_time()
    synchronize(device)
    return time.perf_counter()


class PartTimings(Timings):
    """Time spent in each part, as `spent_s` counts it.

    Args:
        device: where the model computes.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def _switch(self) -> None:
        now = spent_s(self._device)
        if self._stack:
            setattr(self, self._stack[-1], getattr(self, self._stack[-1]) + now - self._since)
        self._since = now


@dataclass
class Measured:
    """What was seen of one candidate, a value per round.

    Attributes:
        wall_s: seconds on the clock.
        cpu_s: processor seconds of all threads, which other jobs on the machine disturb less.
        peak_bytes: the most memory in use: resident memory of the process, or allocated on the GPU.
        load: the machine's load average after each round.
        last: what the last call returned.
    """

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    load: list[float] = field(default_factory=list)
    last: Any = None

    @property
    def median_s(self) -> float:
        """Median seconds on the clock."""
        return statistics.median(self.wall_s)

    @property
    def median_cpu_s(self) -> float:
        """Median processor seconds."""
        return statistics.median(self.cpu_s)

    def median_spent_s(self, device: torch.device) -> float:
        """Median of what `spent_s` counts on this device."""
        return self.median_cpu_s if device.type == "cpu" else self.median_s

    @property
    def spread(self) -> float:
        """Half the distance from the fastest to the slowest round, as a share of the median."""
        return (max(self.wall_s) - min(self.wall_s)) / 2 / self.median_s

    def include(self, more: "Measured") -> None:
        """Take in further rounds of the same candidate."""
        self.wall_s += more.wall_s
        self.cpu_s += more.cpu_s
        self.load += more.load
        self.peak_bytes = max(self.peak_bytes, more.peak_bytes)
        self.last = more.last

    def figures(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        return {
            "median_s": self.median_s,
            "median_cpu_s": self.median_cpu_s,
            "spread": self.spread,
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "peak_mib": self.peak_bytes / 2**20,
            "load": self.load,
        }


def by_turns(
    candidates: Mapping[str, Work], *, repeats: int, device: torch.device, warmup: Mapping[str, Work] | None = None
) -> dict[str, Measured]:
    """Run all candidates in each of `repeats` rounds, each round beginning with another one.

    Args:
        warmup: run once each before the first round; None warms up with the candidates themselves.
    """
    for work in (candidates if warmup is None else warmup).values():
        work()
    results = {name: Measured() for name in candidates}
    names = list(candidates)
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            _once(candidates[name], results[name], device)
    return results


def _once(work: Work, into: Measured, device: torch.device) -> None:
    into.last = None
    gc.collect()
    reset_peak(device)
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    into.last = work()
    synchronize(device)
    into.wall_s.append(time.perf_counter() - wall)
    into.cpu_s.append(time.process_time() - cpu)
    into.peak_bytes = max(into.peak_bytes, peak_bytes(device))
    into.load.append(os.getloadavg()[0])


def reset_peak(device: torch.device) -> None:
    """Forget the highest memory use so far; on systems without `/proc` the peak is that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="ascii")


def peak_bytes(device: torch.device) -> int:
    """Return the highest memory use since `reset_peak`: allocated on the GPU, or resident in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def profiled(path: Path | None) -> AbstractContextManager[Any]:
    """Trace the block to a file that Perfetto and chrome://tracing open; None traces nothing."""
    if path is None:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    return torch.profiler.profile(
        activities=activities, on_trace_ready=lambda profile: profile.export_chrome_trace(str(path))
    )


class MatrixRate:
    """Multiplies two matrices over and over, to see how many operations a second the machine can do.

    Args:
        repeats: multiplications per call.
    """

    def __init__(self, *, device: torch.device, dtype: torch.dtype, repeats: int = 2) -> None:
        self._left = torch.randn(_RATE_ROWS, _RATE_WIDTH, device=device, dtype=dtype)
        self._right = torch.randn(_RATE_WIDTH, _RATE_WIDTH, device=device, dtype=dtype)
        self._repeats = repeats
        self.flops = 2 * _RATE_ROWS * _RATE_WIDTH * _RATE_WIDTH * repeats

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self._repeats):
            torch.nn.functional.linear(self._left, self._right)
