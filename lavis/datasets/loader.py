"""Reading batches in worker processes."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lavis.datasets.dataset import ClipBatch, QuestionDataset, SampleKey, collate


def _worker_context() -> BaseContext:
    # Forking a process that computes with several threads can deadlock in the child. A server that has imported
    # everything forks workers instead, at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "lavis.datasets.clips", "av"])
    return context


def _follow_main_process(_worker: int) -> None:
    """Let a worker end with the main process, and not before.

    A scheduler tells all processes to end, but the main process ends its workers when it has saved. Where it is killed,
    torch's workers look for another parent, but theirs is the fork server, which waits for them in turn.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None, "a worker has a parent"
    threading.Thread(target=_end_with, args=(main.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def build_loader(
    dataset: QuestionDataset,
    batches: Sampler[list[SampleKey]] | Sequence[list[SampleKey]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    timeout_s: float = 0,
) -> "DataLoader[ClipBatch]":
    """Build a loader that reads the given batches, in order.

    Args:
        num_workers: processes that decode ahead; 0 reads in this one.
        pin_memory: prepare batches for a faster copy to a GPU.
        timeout_s: how long a batch is waited for, where workers read it; 0 waits for ever.
    """
    # What the loader yields is what `collate` makes of the dataset's samples.
    return DataLoader(
        cast("Dataset[ClipBatch]", dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        timeout=timeout_s if num_workers else 0,
        worker_init_fn=_follow_main_process,
        persistent_workers=num_workers > 0,
        multiprocessing_context=_worker_context() if num_workers else None,
        # The loader draws a seed per epoch, which must not disturb the random numbers of training.
        generator=torch.Generator(),
    )
