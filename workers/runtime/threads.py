"""The number of threads of a job's sums is fixed by its first claim: another number would round differently."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def fix_threads(threads: int) -> Iterator[None]:
    """BLAS, OpenMP and (if loaded) torch run with this many threads inside the block."""
    with threadpool_limits(limits=threads):
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
        yield
