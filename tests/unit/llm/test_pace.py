"""Waits: between requests, after failures, and as servers ask."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from shared.llm.pace import LONGEST_WAIT_S, Pace, retry_after, wait_before_retry


def leaves(pace: Pace, count: int) -> list[float]:
    """When each of so many requests, asked for together, was let go; seconds from the start."""

    async def one(started: float) -> float:
        await pace.turn()
        return time.monotonic() - started

    async def all_() -> list[float]:
        started = time.monotonic()
        return await asyncio.gather(*(one(started) for _ in range(count)))

    return asyncio.run(all_())


def test_without_a_rate_nothing_waits() -> None:
    assert max(leaves(Pace(None), 100)) < 0.1


def test_requests_are_let_go_in_order_and_evenly() -> None:
    times = leaves(Pace(1200), 5)
    assert times == sorted(times)
    assert times[-1] >= 4 * 0.05 - 0.005


def test_idle_time_saves_up_no_burst() -> None:
    pace = Pace(1200)
    leaves(pace, 1)
    time.sleep(0.3)
    assert leaves(pace, 4)[-1] >= 3 * 0.05 - 0.005


@pytest.mark.parametrize("rate", [None, 6000.0])
def test_a_pause_holds_for_everyone(rate: float | None) -> None:
    pace = Pace(rate)
    pace.pause(0.3)
    assert min(leaves(pace, 3)) >= 0.29


def test_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    pace = Pace(None)
    pace.pause(0.3)
    pace.pause(0.01)
    assert min(leaves(pace, 1)) >= 0.29


@pytest.mark.parametrize(
    ("failures", "longest"),
    [
        pytest.param(1, 0.5, id="first"),
        pytest.param(2, 1.0, id="doubled"),
        pytest.param(5, 8.0, id="and so on"),
        pytest.param(7, 30.0, id="capped: 32 is over 30"),
        pytest.param(5000, 30.0, id="however many"),
    ],
)
def test_waits_grow_up_to_a_cap(failures: int, longest: float) -> None:
    waits = [wait_before_retry(failures, random.Random(seed)) for seed in range(200)]
    assert longest / 2 <= min(waits) < 0.6 * longest
    assert 0.9 * longest < max(waits) <= longest <= LONGEST_WAIT_S


def test_the_same_seed_waits_the_same() -> None:
    waits = [[wait_before_retry(n, generator) for n in range(1, 6)] for generator in map(random.Random, "aab")]
    assert waits[0] == waits[1] != waits[2]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("0.25", 0.25, id="fraction"),
        pytest.param("-3", 0.0, id="negative"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param("inf", None, id="never"),
        pytest.param("nan", None, id="not a number"),
        pytest.param("Mon, 01 Jan 2024 00:00:00 GMT", 0.0, id="a date gone by"),
    ],
)
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date_ahead() -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=90)
    assert retry_after(format_datetime(ahead, usegmt=True)) == pytest.approx(90, abs=2)
