"""How long a person waits for insta.query: from submit to result over HTTP, with `wait_s`, on a warm and idle cpu slot.

    ./tenfold bench insta_http [--quick]

A cluster of its own; every query asks something new of an index that the worker has at hand. Wall time, so it is of
the load that the machine had: each row says it. `--quick`: our own library, ten queries.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from services.client import Tenfold
from tests.bench.bench_insta import real_folder
from tests.cluster.embedded import Embedded

GOAL_MS = 60.0
UNMEASURED = 3  # the first ones load encoder and index
QUERIES = 100
ASKED: dict[str, dict[str, Any]] = {
    "k = 5": {"k": 5},
    "k = 5, no figures": {"k": 5, "figures": False},
    "default k": {},
}
Row = dict[str, Any]


def rows(quick: bool = False) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Embedded(Path(folder))
        cluster.up()
        try:
            with Tenfold(cluster.url, patience_s=60) as tenfold:
                libraries = {"our library": "builtin:tasks"}
                real = real_folder()
                if real and not quick:
                    libraries["1,524 natural instructions"] = tenfold.upload(real / "niv2_tasks.jsonl").ref
                queries = 10 if quick else QUERIES
                return [row for name, ref in libraries.items() for row in _library(tenfold, name, ref, queries)]
        finally:
            cluster.end()


def _library(tenfold: Tenfold, name: str, library: str, queries: int) -> list[Row]:
    job = tenfold.wait(tenfold.submit("insta.index", {"library": library}).id, timeout_s=600)
    table = []
    for title, params in ASKED.items():
        times = [_query(tenfold, job.id, number, params) for number in range(UNMEASURED + queries)][UNMEASURED:]
        table.append(_row(f"submit to result over HTTP, {name}, {title}", times))
    return table


def _query(tenfold: Tenfold, index_job: str, number: int, params: dict[str, Any]) -> float:
    """Milliseconds."""
    given = {"index": f"job:{index_job}/index.tar", "instructions": [f"Sort the list of {number} numbers."], **params}
    start = time.perf_counter()
    done = tenfold.job(tenfold.submit("insta.query", given).id, wait_s=30)
    assert done.state == "succeeded", done.error
    return (time.perf_counter() - start) * 1000


def _row(what: str, times: list[float]) -> Row:
    p50, p95, load = statistics.median(times), statistics.quantiles(times, n=20)[-1], os.getloadavg()[0]
    return {
        "what": what, "ours": round(p50, 1), "peer": GOAL_MS, "peer_name": "the goal", "unit": "ms, p50",
        "ratio": round(GOAL_MS / p50, 2), "goal": 1.0,
        "spread": f"{min(times):.1f}–{max(times):.1f}, p95 {p95:.1f} ({len(times)} queries, load {load:.1f})",
    }  # fmt: skip
