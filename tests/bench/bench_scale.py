"""What one job, one running job and one worker cost the parts that all share: Redis, gateway, reconciler.

    python -m tests.bench.bench_scale [--quick]

CPU time, not wall time, so that a busy machine does not show: Redis's from INFO, this process's from the system. From
these figures docs/scale.md computes what limits a cluster at 10, 1,000 and 100,000 workers. There is no peer.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from services.gateway.app import create_app
from services.reconciler.loop import Reconciler
from shared.artifacts import ArtifactStore
from shared.jobs.claims import Claim, Outcome, Report
from shared.jobs.record import Priority
from shared.jobs.states import JobState
from shared.jobs.store import JobStore, NewJob, Submission, Worker
from shared.jobs.workers import WorkerList
from shared.settings import Settings
from tests.redis_server import redis_server

MESSAGE = 'TENFOLD_JOB_ID.TENFOLD_ATTEMPT "tenfold_publish": "TENFOLD_PUBLISH"'.ljust(1000)
PARAMS = '{"text": "' + "x" * 4000 + '"}'
RESULT = '{"text": "' + "x" * 4000 + '"}'
PEEKS_PER_S, RENEWALS_PER_S, ROUNDS_PER_S = 2.0, 1 / 3, 2.0
PROGRESS = Report({"progress": "{}"}, [("progress", "{}")])
ROUNDS = 5


class Cost(NamedTuple):
    """µs of CPU per act."""

    redis: float
    here: float


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    many = 200 if quick else 2000
    with redis_server("--appendonly", "yes") as server, TemporaryDirectory() as folder:
        settings = Settings(redis_url=server.url, data=Path(folder))
        costs = _measured(JobStore.connect(server.url), settings, many)
    table = [row for what, found in costs.items() for row in _pair(what, found)]
    beat = (
        _median(costs["flags of a running job"]) * PEEKS_PER_S + _median(costs["renewal of a lease"]) * RENEWALS_PER_S
    )
    idle = _median(costs["round of a worker's main process"]) * ROUNDS_PER_S
    return [*table, *_limits(_median(costs["life of a job"]), beat, idle)]


def _measured(store: JobStore, settings: Settings, many: int) -> dict[str, list[Cost]]:
    client = create_app(settings).test_client()
    reconciler = Reconciler(store, ArtifactStore(settings.artifact_root), settings)
    workers, claim = WorkerList(store), _running(store)

    def round_of_a_worker() -> None:
        store.held_by("w@0")
        workers.announce("w@0", "cpu", 1, 10)

    acts: dict[str, tuple[Callable[[], object], int]] = {
        "life of a job": (lambda: _live(store), many),
        "flags of a running job": (lambda: store.flags(claim), many),
        "renewal of a lease": (lambda: store.renew(claim, 600), many),
        "report of a running job": (lambda: store.report(claim, PROGRESS), many),
        "round of a worker's main process": (round_of_a_worker, many),
        "round of the reconciler": (reconciler.return_jobs, many // 20),
        "scrape of /metrics": (lambda: client.get("/metrics"), many // 20),
        "answer of /v1/queues": (lambda: client.get("/v1/queues"), many // 10),
    }
    return {what: [_cost(store, act, count) for _ in range(ROUNDS)] for what, (act, count) in acts.items()}


def _live(store: JobStore) -> None:
    """From submit to committed history."""
    claimed = store.claim(_submit(store), 1, Worker("w@0", 1))
    assert claimed is not None
    store.redis.rpop("cpu:3")
    store.commit(claimed[0], Outcome(JobState.SUCCEEDED, {"artifacts": "[]", "result": RESULT}))


def _submit(store: JobStore) -> str:
    new = NewJob("insta.query", 1, "cpu", PARAMS, MESSAGE, "cpu:3", Priority.NORMAL)
    return store.submit(new, Submission("ann", 10**9)).id


def _running(store: JobStore) -> Claim:
    claimed = store.claim(_submit(store), 1, Worker("w@1", 1, lease_ttl_s=600))
    assert claimed is not None
    return claimed[0]


def _cost(store: JobStore, act: Callable[[], object], count: int) -> Cost:
    redis_before, here_before = _redis_cpu(store), time.process_time()
    for _ in range(count):
        act()
    here = time.process_time() - here_before
    return Cost((_redis_cpu(store) - redis_before) / count * 1e6, here / count * 1e6)


def _redis_cpu(store: JobStore) -> float:
    info = store.redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _median(found: list[Cost]) -> float:
    return statistics.median(cost.redis for cost in found)


def _pair(what: str, found: list[Cost]) -> list[dict[str, Any]]:
    return [
        _row(f"{what}: {who}", statistics.median(values), "µs of CPU", f"{min(values):.0f}–{max(values):.0f}")
        for who, values in (("Redis", [c.redis for c in found]), ("its caller", [c.here for c in found]))
    ]


def _limits(life_us: float, beat_us: float, idle_us: float) -> list[dict[str, Any]]:
    """What half a core of Redis carries."""
    half = 0.5e6
    note = "from the figures above"
    return [
        _row("one running job and its worker: Redis", beat_us + idle_us, "µs of CPU per second", note),
        _row("workers with a job each on half a core of Redis", half / (beat_us + idle_us), "workers", note),
        _row("jobs per second on half a core of Redis", half / life_us, "jobs/s", note),
    ]


def _row(what: str, ours: float, unit: str, spread: str) -> dict[str, Any]:
    return {
        "what": what, "ours": round(ours, 1), "peer": None, "peer_name": "", "unit": unit, "ratio": None,
        "spread": spread, "goal": "",
    }  # fmt: skip


if __name__ == "__main__":
    from tests.bench.__main__ import main

    main("scale")
