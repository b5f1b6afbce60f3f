"""Reconcile, every second, by compare-and-set scripts only: whatever two reconcilers both try happens once.

Returned: expired leases; retried jobs whose time has come; queued jobs whose message is gone. Written: `committed.json`
where a worker died before it. Cleared: superseded prefixes, files of deleted jobs, old uploads, records past their
days. Nothing is expired until Redis has been up, and this loop connected to it, for one lease TTL: after an outage
the workers renew first.
"""

import threading
import time

import redis
import structlog

from shared.artifacts import ArtifactStore
from shared.broker import queue_keys
from shared.jobs.errors import NotFound
from shared.jobs.history import write_committed
from shared.jobs.retention import Retention
from shared.jobs.store import PREFIX, JobStore
from shared.settings import Settings

EVERY_S = 1.0
CLEAR_EVERY_S = 60.0

log = structlog.get_logger()


class Reconciler:
    """One loop over one store."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, settings: Settings) -> None:
        self.store, self.artifacts, self.settings = store, artifacts, settings
        self._retention = Retention(store, artifacts, settings.keep_days)
        self._connected_since: float | None = None
        self._cleared = 0.0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.wait(EVERY_S):
            try:
                self.round()
            except (redis.RedisError, OSError) as error:
                self._connected_since = None
                log.warning("store unreachable", error=str(error))

    def round(self) -> None:
        """One pass over everything."""
        if self._may_expire():
            self.expire()
        self.store.push_due()
        for queue in queue_keys():
            for job_id in self.store.republish(queue):
                log.warning("message was gone: pushed again", job_id=job_id, queue=queue)
        self.write_missing_history()
        self._retention.clear_garbage()
        if time.monotonic() - self._cleared > CLEAR_EVERY_S:
            self._cleared = time.monotonic()
            self._retention.clear_old()

    def expire(self) -> None:
        """End the leases that ran out."""
        for job_id in self.store.expired():
            try:
                record = self.store.get(job_id)
            except NotFound:
                continue
            state = self.store.lose(job_id, record.attempt, only_expired=True)
            if state is not None:
                log.warning("lease expired", job_id=job_id, attempt=record.attempt, state=str(state))

    def write_missing_history(self) -> None:
        """committed.json of final jobs whose worker did not write it within a few seconds."""
        for job_id in self.store.redis.srandmember(f"{PREFIX}uncommitted", 100):
            finished_ms = int(self.store.redis.hget(f"{PREFIX}job:{job_id}", "finished_ms") or 0)
            if self.store.now_ms() - finished_ms > 2000:
                write_committed(job_id, self.store, self.artifacts)

    def _may_expire(self) -> bool:
        now = time.monotonic()
        uptime_s = int(self.store.redis.info("server")["uptime_in_seconds"])
        if self._connected_since is None:
            self._connected_since = now
        ttl_s = self.settings.lease_ttl_s
        return uptime_s >= ttl_s and now - self._connected_since >= ttl_s
