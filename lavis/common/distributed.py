"""The processes of a run: one alone, or several started by torchrun."""

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from lavis.common.errors import ConfigError
from lavis.common.processes import end_with_torchrun


@dataclass(frozen=True, slots=True)
class World:
    """This process among all of them; the default is one process alone, which needs no process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up numbers over all processes, place by place."""
        if self.size == 1:
            return list(values)
        # NCCL has no double precision on every device; counts and losses fit into it where it is.
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank, to all of them."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(*, device: str | None = None, timeout_s: float = 1800.0) -> Iterator[World]:
    """Join the processes that torchrun started, if it did, and leave them together at the end.

    Where torchrun ends without ending them, as when it is killed, they end as after SIGTERM. A program that joins
    others ends by `lavis.cli.main.reported`: after the block torch's threads may still hold what was exchanged, and one
    that frees a tensor while the interpreter is taken down aborts the process (gloo, torch 2.13).

    After an exception they are not left, as that would wait for what the others have not answered: the connections
    close when the process ends, which is what tells the others.

    Args:
        device: "cpu" or "cuda"; None is CUDA where there is one. With several processes, each takes its own GPU.
        timeout_s: how long a silent process is waited for.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"run.device is {kind!r}, but torch finds no CUDA device; use run.device=cpu")
    if (torch.device(kind).index or 0) >= max(1, torch.cuda.device_count()):
        raise ConfigError(f"run.device is {kind!r}, but torch finds {torch.cuda.device_count()} CUDA devices")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=torch.device(kind))
        return
    if kind.startswith("cuda"):
        kind = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(kind)
    end_with_torchrun()
    backend = "nccl" if kind.startswith("cuda") else "gloo"
    _meet(backend, timeout=datetime.timedelta(seconds=timeout_s))
    world = World(rank=dist.get_rank(), size=size, device=torch.device(kind))
    yield world
    # Nothing may be under way when the group is freed. DDP frees it while it holds the interpreter's lock, and waits
    # for the group's threads, which wait for that lock to free what they have just exchanged (gloo, torch 2.13).
    world.wait()
    dist.destroy_process_group()


def _meet(backend: str, *, timeout: datetime.timedelta) -> None:
    """Form the process group, without the addresses that an earlier start left behind.

    When torchrun starts processes again, their store may still hold the addresses of the ones before. On one machine
    all processes know how often that was, and leave their addresses under that number. On several machines the numbers
    may differ; there torchrun brings a new store.
    """
    store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        store = dist.PrefixStore(f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
