"""Bounds on how long things take: for tests marked `slow` alone, since other programs may keep the machine busy."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_seconds_at_most(limit_s: float) -> Iterator[None]:
    """Assert that the block, with all threads of this process, computes no longer than this."""
    started = time.process_time()
    yield
    assert time.process_time() - started < limit_s
