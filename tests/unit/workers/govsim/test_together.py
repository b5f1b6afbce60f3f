"""Many things at once: failures wait for the others, and the collector is left as it was."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from workers.govsim.together import ALLOCATIONS_A_COLLECTION, all_of, collecting_rarely


class Cycle:
    """An object that only the collector frees."""

    def __init__(self):
        self.own = self


def test_after_a_failure_the_others_still_finish():
    finished = []

    async def one(number):
        await asyncio.sleep(0)
        if number == 0:
            raise ValueError("the first")
        finished.append(number)

    with pytest.raises(ValueError, match="the first"):
        asyncio.run(all_of(one(number) for number in range(3)))
    assert finished == [1, 2]


def test_the_collector_looks_rarely_inside_and_is_left_as_it_was():
    before = gc.get_threshold()
    with contextlib.suppress(RuntimeError), collecting_rarely():
        assert gc.get_threshold()[0] == ALLOCATIONS_A_COLLECTION
        raise RuntimeError
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_cycles_made_inside_are_still_freed():
    with collecting_rarely():
        gone = weakref.ref(Cycle())
        kept = [[] for _ in range(2 * ALLOCATIONS_A_COLLECTION)]
        assert gone() is None
    assert len(kept) == 2 * ALLOCATIONS_A_COLLECTION
