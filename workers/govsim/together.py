"""Waiting for many answers at once, and for a job that must stop."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from shared.jobs.errors import Interrupted

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
CHECK_EVERY_S = 0.2
ALLOCATIONS_A_COLLECTION = 100_000
"""Between two looks for cycles. At Python's 700 a wave of runs spends a fifth of its processor time on looking."""


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """Everything at once. After a failure the others still finish, so that no reply that was paid for is lost."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return done  # type: ignore[return-value]


@overload
async def each_of(first: Awaitable[A], second: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def each_of(first: Awaitable[A], second: Awaitable[B], third: Awaitable[C], /) -> tuple[A, B, C]: ...
async def each_of(*work: Awaitable[Any]) -> tuple[Any, ...]:
    """`all_of` for things of different kinds."""
    return tuple(await all_of(work))


async def watched(work: Awaitable[T], check: Callable[[], None]) -> T:
    """Await something, and stop it when the job must stop."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=CHECK_EVERY_S)
        try:
            check()
        except Interrupted:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
    return task.result()


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let the collector of reference cycles pass over what there is already, and look at the rest now and then."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_A_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
