"""A no-op from submit to result: ours over HTTP, and plain Celery from its own client."""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from celery import Celery

from tests.bench.load import percentile
from tests.bench.streams import call, submit

T = TypeVar("T")


class EndToEnd(NamedTuple):
    p50_ms: float
    p99_ms: float
    per_s: float


def ours_end_to_end(port: int, jobs: int) -> EndToEnd:
    """Submit and wait, one after another; then as many at once."""

    def one() -> None:
        job = submit(port, "test.noop", {"note": "x"})
        wait(job)

    def wait(job: str) -> None:
        state = call(port, "GET", f"/v1/jobs/{job}?wait_s=60")["state"]
        assert state == "succeeded", state

    return _measured(one, lambda: submit(port, "test.noop", {"note": "x"}), wait, jobs)


def plain_end_to_end(redis_url: str, jobs: int) -> EndToEnd:
    """The same through `apply_async` and `get`."""
    app = Celery("caller", broker=redis_url, backend=redis_url)
    noop = app.signature("bare.noop", kwargs={"note": "x"})
    measured = _measured(lambda: noop.apply_async().get(60), noop.apply_async, lambda sent: sent.get(60), jobs)
    app.close()
    return measured


def _measured(one: Callable[[], object], send: Callable[[], T], wait: Callable[[T], object], jobs: int) -> EndToEnd:
    each = []
    for _ in range(jobs):
        start = time.perf_counter()
        one()
        each.append((time.perf_counter() - start) * 1000)
    start = time.perf_counter()
    for sent in [send() for _ in range(jobs)]:
        wait(sent)
    return EndToEnd(percentile(each, 50), percentile(each, 99), jobs / (time.perf_counter() - start))
