"""`/metrics` of the cluster: what the records, counters and queues in Redis say at this moment.

Workers and the reconciler serve no HTTP: what they count, they count in Redis, in the scripts by which jobs move. So a
restarted process resets no counter, and any gateway tells the whole cluster's truth.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.state import Gateway
from shared.jobs.catalog import catalog, pools
from shared.jobs.store import PREFIX
from shared.jobs.workers import WorkerList

COUNTERS = {
    "finished": ("tenfold_jobs_ended", "Jobs by outcome; error_type says why one failed", ["state", "error_type"]),
    "claims": ("tenfold_job_claims", "Attempts started", []),
    "lost": (
        "tenfold_job_losses",
        "Attempts whose worker is gone: its lease expired, its process died, or it was killed while stopping",
        ["why"],
    ),
    "handed_back": ("tenfold_job_hand_backs", "Attempts that a stopping worker gave back", []),
    "retried": ("tenfold_job_retries", "Attempts that ended in a retryable error", ["error_type"]),
}
"""Counters of the scripts, by their first word: metric, meaning, labels beside pool and kind."""
HISTOGRAMS = {
    "wait": ("tenfold_job_wait_seconds", "From queued to claimed, per attempt"),
    "run": ("tenfold_job_run_seconds", "Running time of ended jobs, summed over their attempts"),
}
POOL_GAUGES = {
    "waiting": "Jobs that are queued",
    "running": "Jobs that run",
    "slots": "Jobs that the workers alive can run at once",
    "workers": "Workers alive",
    "oldest_wait_s": "Seconds that the job at the head of the queue has waited",
    "desired_workers": "Workers that would run every waiting and running job at once",
}
GPU_GAUGES = {
    "used_bytes": "Memory in use on a GPU of a worker's machine, by all its processes",
    "total_bytes": "Memory of a GPU of a worker's machine",
}
SETS = {
    "tenfold_jobs_blocked": ("ix:state:blocked", "Jobs that wait for another job"),
    "tenfold_jobs_delayed": ("delayed", "Jobs that wait for the time of their next attempt"),
    "tenfold_garbage": ("garbage", "Folders and files that are still to be deleted"),
}


class ClusterTruth(Collector):
    """Reads everything anew at each scrape."""

    def __init__(self, parts: Gateway) -> None:
        self._store, self._redis = parts.store, parts.store.redis

    def collect(self) -> Iterator[Metric]:
        counters = self._redis.hgetall(f"{PREFIX}counters")
        yield from self._pools()
        yield from self._sets()
        yield from self._memory()
        yield from counted(counters)
        yield from histograms(counters)
        yield self._reconciler()

    def _pools(self) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(f"tenfold_pool_{name}", text, labels=["pool"]) for name, text in POOL_GAUGES.items()
        }
        workers = WorkerList(self._store)
        for pool in pools():
            status = workers.status(pool)
            for name, family in families.items():
                family.add_metric([pool], getattr(status, name))
        yield from families.values()
        yield from self._gpus(workers)

    def _gpus(self, workers: WorkerList) -> Iterator[Metric]:
        """Of the workers alive; after `status`, which forgets the dead."""
        labels = ["pool", "worker", "gpu"]
        families = {
            name: GaugeMetricFamily(f"tenfold_gpu_memory_{name}", text, labels=labels)
            for name, text in GPU_GAUGES.items()
        }
        for pool in pools():
            for worker, gpus in workers.gpus(pool).items():
                for index, gpu in enumerate(gpus):
                    for name, family in families.items():
                        family.add_metric([pool, worker, str(index)], getattr(gpu, name))
        yield from families.values()

    def _sets(self) -> Iterator[Metric]:
        for name, (key, text) in SETS.items():
            yield GaugeMetricFamily(name, text, value=self._redis.zcard(PREFIX + key))
        lacking = self._redis.scard(f"{PREFIX}uncommitted")
        yield GaugeMetricFamily("tenfold_history_lacking", "Ended jobs without their committed.json", value=lacking)
        overdue = self._redis.zcount(f"{PREFIX}leases", "-inf", self._store.now_ms())
        yield GaugeMetricFamily("tenfold_leases_overdue", "Running jobs whose lease has run out", value=overdue)

    def _memory(self) -> Iterator[Metric]:
        info = self._redis.info()
        used, limit = float(info["used_memory"]), float(info.get("maxmemory", 0))
        yield GaugeMetricFamily("tenfold_redis_memory_bytes", "Memory that Redis uses", value=used)
        yield GaugeMetricFamily("tenfold_redis_memory_limit_bytes", "Its maxmemory; 0: none", value=limit)
        writes = float(info.get("aof_last_write_status", "ok") == "ok")
        yield GaugeMetricFamily("tenfold_redis_aof_ok", "Whether Redis could write its file last time", value=writes)

    def _reconciler(self) -> Metric:
        """0 before any reconciler's first round."""
        last = self._redis.get(f"{PREFIX}reconciled_ms")
        seconds = float(last or 0) / 1000
        return GaugeMetricFamily("tenfold_reconciled_timestamp_seconds", "A reconciler's last round", value=seconds)


def counted(counters: Mapping[str, str]) -> Iterator[Metric]:
    """The plain counters. A name that this version does not know is another version's."""
    families = {
        word: CounterMetricFamily(name, text, labels=["pool", "kind", *labels])
        for word, (name, text, labels) in COUNTERS.items()
    }
    republished = CounterMetricFamily("tenfold_messages_republished", "Messages that were gone", labels=["pool"])
    for key, value in counters.items():
        word, *labels = key.split("|")
        if word in families and len(labels) == 1 + len(COUNTERS[word][2]):
            families[word].add_metric([pool_of(labels[0]), *labels], float(value))
        elif word == "republished":
            republished.add_metric(labels, float(value))
    yield from (*families.values(), republished)


def histograms(counters: Mapping[str, str]) -> Iterator[Metric]:
    """`wait|pool|kind|bound` counts what fell under a bound and not under the one before; Prometheus wants sums."""
    for word, (name, text) in HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=["pool", "kind"])
        for labels, buckets in sorted(_buckets(counters, word).items()):
            total, cumulated = 0.0, []
            for bound in sorted(buckets, key=float):
                total += buckets[bound]
                cumulated.append((bound, total))
            if "+Inf" not in buckets:
                cumulated.append(("+Inf", total))
            sum_s = float(counters.get(f"{word}_ms|{'|'.join(labels)}", 0)) / 1000
            family.add_metric(list(labels), cumulated, sum_s)
        yield family


def _buckets(counters: Mapping[str, str], word: str) -> dict[tuple[str, str], dict[str, float]]:
    """(pool, kind) -> bound -> count."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key, value in counters.items():
        if key.startswith(f"{word}|"):
            _, pool, kind, bound = key.split("|")
            found.setdefault((pool, kind), dict.fromkeys(BOUNDS, 0.0))[bound] = float(value)
    return found


BOUNDS = ("0.1", "0.5", "1", "2.5", "5", "10", "30", "60", "300", "1800", "3600", "14400", "86400", "604800")
"""Seconds; the same as in the scripts."""


def pool_of(kind: str) -> str:
    """A kind's pool; of a kind that this cluster has no more, unknown."""
    spec = catalog().get(kind)
    return spec.pool if spec else "unknown"
