"""The job store with 100,000 jobs in it: how long a listing takes, what a job weighs, how many a second.

    python -m tests.bench.bench_store [--quick]

One client, one Redis without persistence on the same machine. Every job has 4 KiB of params and most a result of
30 KiB; the texts are random, so nothing is shared. A latency is that of a whole call: index walk, records, parsing; on
a busy machine it is mostly waiting for a core, so the CPU of a call, client's and Redis's together, stands beside it.
There is no peer: what others keep of a job is not comparable, so these columns are empty.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from shared.jobs.record import Priority
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, NewJob, Outcome, Query, Submission, Worker
from tests.redis_server import redis_server

PARAMS_BYTES, RESULT_BYTES = 4 * 1024, 30 * 1024
WITH_RESULT = 0.9  # of the jobs; the rest failed
GOAL_MS = 20.0
WORKER = Worker("bench@host", 1)
MESSAGE = 'TENFOLD_JOB_ID.TENFOLD_ATTEMPT "tenfold_publish": "TENFOLD_PUBLISH"'.ljust(1000)
TEXTS = random.Random(7)


class Call(NamedTuple):
    wall_ms: float
    cpu_ms: float


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    count = 5_000 if quick else 100_000
    with redis_server() as server:
        store = JobStore.connect(server.url)
        before = _used(store)
        submits = _filled(store, count)
        cycles = _run(store, count)
        fresh = (_used(store) - before) / count
        table = [_latency(what, times, count) for what, times in _measured(store, 100 if quick else 400)]
        _a_day_passes(store)
        settled = (_used(store) - before) / count
        store.redis.close()
    payload = PARAMS_BYTES + RESULT_BYTES * WITH_RESULT
    note = f"{count:,} jobs; {payload / 1024:.1f} KiB of it params and results"
    table.append(_row("memory per job in its first day", fresh / 1024, "KiB", note))
    table.append(_row("memory per job later, its event stream expired", settled / 1024, "KiB", note))
    table.append(_row("submits of one job each", statistics.median(submits), "jobs/s", _range(submits)))
    table.append(_row("claim and commit with result", statistics.median(cycles), "jobs/s", _range(cycles)))
    return table


# What is stored -------------------------------------------------------------------------------------------------------


def _filled(store: JobStore, count: int) -> list[float]:
    """Submit that many; jobs per second of each tenth."""
    by = Submission("ann", max_unfinished=count + 1)
    return [
        _rate(lambda n: store.submit(_job(n), by), range(start, start + count // 10))
        for start in range(0, count, count // 10)
    ]


def _job(n: int) -> NewJob:
    labels = {"study": f"s{n % 100}", "arm": "ab"[n % 2]}
    params = json.dumps({"text": _text(PARAMS_BYTES - 12)})
    kind = f"method{n % 10}.run"
    return NewJob(kind, 1, "cpu", params, MESSAGE, "cpu:3", Priority.NORMAL, f"job {n}", labels)


def _run(store: JobStore, count: int) -> list[float]:
    """Take every message and end its job, nine of ten with a result; jobs per second of each tenth."""

    def once() -> None:
        job_id = str(store.redis.rpop("cpu:3")).partition(".")[0]
        claimed = store.claim(job_id, 1, WORKER)
        assert claimed is not None
        store.commit(claimed[0], _outcome())

    return [_rate(lambda _: once(), range(count // 10)) for _ in range(10)]


def _outcome() -> Outcome:
    if TEXTS.random() > WITH_RESULT:
        return Outcome(JobState.FAILED, {"artifacts": "[]"}, "error", "ValueError: no")
    return Outcome(JobState.SUCCEEDED, {"artifacts": "[]", "result": json.dumps({"text": _text(RESULT_BYTES - 12)})})


def _used(store: JobStore) -> int:
    return int(store.redis.info("memory")["used_memory"])


def _a_day_passes(store: JobStore) -> None:
    """Remove what expires by itself: event streams, and the notes by which a submit sent twice is seen."""
    for pattern in ("tf:events:*", "tf:call:*"):
        keys = list(store.redis.scan_iter(pattern, count=1000))
        for start in range(0, len(keys), 1000):
            store.redis.delete(*keys[start : start + 1000])


def _text(length: int) -> str:
    return TEXTS.randbytes(length // 2).hex()


def _rate(act: Callable[[int], object], numbers: range) -> float:
    start = time.perf_counter()
    for n in numbers:
        act(n)
    return len(numbers) / (time.perf_counter() - start)


# What is asked --------------------------------------------------------------------------------------------------------


def _measured(store: JobStore, times: int) -> Iterator[tuple[str, list[Call]]]:
    """Latencies in ms of every kind of listing, the kinds taking turns."""
    ids = list(store.redis.zrangebylex("tf:ix:all", "-", "+"))
    chance = random.Random(11)

    def narrow(state: JobState = JobState.SUCCEEDED) -> Query:
        n = chance.randrange(100)
        return Query(f"method{n % 10}.run", state, labels=(("study", f"s{n}"),))

    asked: dict[str, Callable[[], Query]] = {
        "first page of 50": Query,
        "first page of 200": lambda: Query(limit=200),
        "page of 50 from anywhere": lambda: Query(cursor=chance.choice(ids)),
        "kind, state and label, 50": narrow,
        "kind, state and label that exclude each other": lambda: Query("method1.run", labels=(("study", "s2"),)),
        "two large criteria with nothing in common": lambda: Query("method1.run", labels=(("arm", "a"),)),
    }
    taken: dict[str, list[Call]] = {what: [] for what in asked}
    for _ in range(times):
        for what, query in asked.items():
            taken[what].append(_timed(store, query()))
    yield from taken.items()


def _timed(store: JobStore, query: Query) -> Call:
    """One call; the CPU is the client's and Redis's together."""
    before = store.redis.info("cpu")
    cpu, start = time.process_time(), time.perf_counter()
    store.find(query)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    after = store.redis.info("cpu")
    cpu += sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    return Call(1000 * wall, 1000 * cpu)


# The table ------------------------------------------------------------------------------------------------------------


def _latency(what: str, calls: list[Call], count: int) -> dict[str, Any]:
    walls = [call.wall_ms for call in calls]
    p99 = statistics.quantiles(walls, n=100)[98]
    cpu = statistics.mean(call.cpu_ms for call in calls)
    spread = (
        f"p50 {statistics.median(walls):.1f}, max {max(walls):.1f}, CPU {cpu:.1f} ({len(calls)} calls, {count:,} jobs)"
    )
    return _row(f"list: {what}, p99", p99, "ms", spread, GOAL_MS)


def _row(what: str, ours: float, unit: str, spread: str, goal: float | None = None) -> dict[str, Any]:
    return {
        "what": what, "ours": round(ours, 1), "peer": None, "peer_name": None, "unit": unit, "ratio": None,
        "spread": spread, "goal": goal,
    }  # fmt: skip


def _range(rates: list[float]) -> str:
    return f"{min(rates):,.0f}–{max(rates):,.0f} ({len(rates)} rounds, one client)"


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
