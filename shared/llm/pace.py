"""How fast an endpoint may be asked: requests per minute, pauses a server asks for, growing waits after failures."""

import asyncio
import math
import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


class Pace:
    """A token bucket on the monotonic clock that holds one token: requests are spaced evenly, never in a burst."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0  # when the next request may go

    async def turn(self) -> None:
        """Wait for leave to send one request; leaves are given in the order they were asked for."""
        while True:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + self._interval_s
                return
            if not self._interval_s:  # only a pause to sit out
                await asyncio.sleep(self._next - now)
                continue
            at, self._next = self._next, self._next + self._interval_s
            await asyncio.sleep(at - now)
            return

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: a server that turned one request away would turn away the others."""
        self._next = max(self._next, time.monotonic() + seconds)


def wait_before_retry(failures: int, generator: random.Random) -> float:
    """Seconds to wait after the n-th failure in a row: 0.5 · 2ⁿ⁻¹, at most 30, of which a random half or more."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 16))
    return longest * generator.uniform(0.5, 1.0)


def retry_after(header: str | None) -> float | None:
    """Seconds in a `Retry-After` header, given as a number or a date; None without a usable one."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
