"""What submitting, watching and a whole job cost, beside plain Flask and Celery in the same run.

    ./tenfold bench gateway [--quick] [--json]

- Submits: ours validates, writes record, indexes and idempotency key and pushes the message; the peer is a bare Flask
  application that calls `apply_async`, under the same gunicorn with our class of worker. Rounds alternate, so that a
  busy machine slows both. The figure that counts is requests per second of CPU of the gunicorn workers.
- Streams: 500 open event streams of a job that says ten tokens, while others look at jobs.
- The whole way: a no-op from submit to result, beside plain Celery with a result backend; one worker child each.

A figure is the median over rounds; spread is the smallest and largest.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from tests.bench.load import Caller, latencies, percentile
from tests.bench.servers import Http, Servers, servers
from tests.bench.streams import watch_ten_tokens
from tests.bench.whole_way import ours_end_to_end, plain_end_to_end

CALLERS = 4


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    with servers() as running:
        return [*_submits(running, quick), *_streams(running, quick), *_whole_way(running, quick)]


class Round:
    """One side's figures in one round of submits."""

    def __init__(self, server: Http, caller: Caller, requests: int) -> None:
        before = server.cpu_s()
        took = latencies(caller, CALLERS, requests)
        self.per_cpu_s = requests / (server.cpu_s() - before)
        self.per_s = requests / took.wall_s
        self.p50_ms, self.p99_ms = percentile(took.each_ms, 50), percentile(took.each_ms, 99)


def _submits(running: Servers, quick: bool) -> list[dict[str, Any]]:
    gateway, bare = running.gateway(), running.bare_flask()
    params = {"note": "a note of some length, as params have"}
    ours = Caller(gateway.port, "/v1/jobs", {"kind": "test.noop", "params": params}, has_key=True)
    theirs = Caller(bare.port, "/jobs", {"kind": "test.noop", "params": params})
    sides = [(gateway, ours), (bare, theirs)]
    requests = 300 if quick else 1500
    for server, caller in sides:
        Round(server, caller, 200)  # imports, connections, caches
    pairs = [[Round(server, caller, requests) for server, caller in sides] for _ in range(3 if quick else 9)]
    mine, peers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    peer = "bare Flask + apply_async"
    return [
        _row(
            "submits per second of gateway CPU",
            peer,
            "1/s of CPU",
            _of(mine, "per_cpu_s"),
            _of(peers, "per_cpu_s"),
            goal=1.3,
        ),
        _row(f"submits per second, {CALLERS} callers", peer, "1/s", _of(mine, "per_s"), _of(peers, "per_s")),
        _row("submit latency p50", peer, "ms", _of(mine, "p50_ms"), _of(peers, "p50_ms"), less_is_better=True),
        _row("submit latency p99", peer, "ms", _of(mine, "p99_ms"), _of(peers, "p99_ms"), less_is_better=True),
    ]


def _streams(running: Servers, quick: bool) -> list[dict[str, Any]]:
    gateway = running.gateway()
    with running.worker():
        seen = [watch_ten_tokens(gateway.port, streams=500) for _ in range(1 if quick else 5)]
    return [
        _limit("500 streams, ten tokens: event delay p99", [one.delay_p99_ms for one in seen], goal_ms=250),
        _limit("500 streams, ten tokens: event delay p50", [one.delay_p50_ms for one in seen]),
        _limit("500 streams: until all are open", [one.opening_ms for one in seen]),
        _limit("GET /v1/jobs/{id} p99 while all are open", [one.get_p99_ms for one in seen], goal_ms=100),
    ]


def _whole_way(running: Servers, quick: bool) -> list[dict[str, Any]]:
    gateway = running.gateway()
    jobs, rounds = (20, 1) if quick else (100, 3)
    with running.worker(), running.plain_worker():
        ours_end_to_end(gateway.port, 3), plain_end_to_end(running.bare_redis, 3)  # both workers are up
        pairs = [
            (ours_end_to_end(gateway.port, jobs), plain_end_to_end(running.bare_redis, jobs)) for _ in range(rounds)
        ]
    mine, peers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    peer = "plain Celery, result backend"
    return [
        _row(
            "no-op, submit to result, p50", peer, "ms", _of(mine, "p50_ms"), _of(peers, "p50_ms"), less_is_better=True
        ),
        _row(
            "no-op, submit to result, p99", peer, "ms", _of(mine, "p99_ms"), _of(peers, "p99_ms"), less_is_better=True
        ),
        _row("no-ops through one worker child", peer, "1/s", _of(mine, "per_s"), _of(peers, "per_s")),
    ]


def _of(rounds: Sequence[Any], name: str) -> list[float]:
    return [getattr(one, name) for one in rounds]


def _row(
    what: str, peer: str, unit: str, mine: list[float], theirs: list[float], *, less_is_better: bool = False,
    goal: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Medians, and the median of the rounds' ratios with its spread."""
    ratios = [b / a if less_is_better else a / b for a, b in zip(mine, theirs, strict=True)]
    return {
        "what": what, "ours": round(statistics.median(mine), 1), "peer": round(statistics.median(theirs), 1),
        "peer_name": peer, "unit": unit, "ratio": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)], "goal": goal,
    }  # fmt: skip


def _limit(what: str, values: list[float], goal_ms: float | None = None) -> dict[str, Any]:
    """A figure without a rival; the ratio says how far below its goal it stays."""
    middle = statistics.median(values)
    return {
        "what": what, "ours": round(middle, 1), "peer": goal_ms, "peer_name": None if goal_ms is None else "goal",
        "unit": "ms", "ratio": None if goal_ms is None else round(goal_ms / middle, 2),
        "spread": [round(min(values), 1), round(max(values), 1)], "goal": None if goal_ms is None else 1.0,
    }  # fmt: skip
