"""Reconcile, every second, by compare-and-set scripts only: whatever two reconcilers both try happens once.

Returned: expired leases; retried jobs whose time has come; queued jobs whose message is gone. Written: `committed.json`
where a worker died before it. Cleared: superseded prefixes, files of deleted jobs, old uploads, records past their
days.

Nothing is expired until Redis has been up, and this loop in touch with it, for one lease TTL: after an outage, or when
the machine slept, the workers renew first. Files have a thread of their own, so that a slow or broken artifact store
keeps no job from being returned.
"""

import threading
import time
from collections.abc import Callable

import redis
import structlog

from shared.artifacts import ArtifactStore
from shared.jobs.history import write_committed
from shared.jobs.retention import Retention
from shared.jobs.store import PREFIX, JobStore
from shared.settings import Settings

EVERY_S = 1.0
CLEAR_EVERY_S = 60.0
WORKER_WRITES_MS = 2000  # a worker writes committed.json itself, just after its commit

log = structlog.get_logger()


class Reconciler:
    """One loop over one store, one over its files."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, settings: Settings) -> None:
        self.store, self.artifacts, self.settings = store, artifacts, settings
        self.retention = Retention(store, artifacts, settings.keep_days)
        self._contact = Contact(settings.lease_ttl_s)
        self._cleared: float | None = None
        self._alive = settings.data.resolve() / "run" / "reconciler.alive"
        self._alive.parent.mkdir(parents=True, exist_ok=True)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        files = threading.Thread(target=self._repeat, args=(self.tend_files, stop), name="files", daemon=True)
        files.start()
        self._repeat(self.return_jobs, stop)
        files.join(timeout=10)

    def round(self) -> None:
        """One pass over everything."""
        self.return_jobs()
        self.tend_files()

    def return_jobs(self) -> None:
        """One pass over leases and queues."""
        try:
            if self._contact.is_settled(self.store):
                self.expire()
            self.store.push_due()
            for queue in self.store.lists():
                for job_id in self.store.republish(queue):
                    log.warning("message was gone: pushed again", job_id=job_id, queue=queue)
        except (redis.RedisError, OSError):
            self._contact.lost()
            raise
        self.store.redis.set(f"{PREFIX}reconciled_ms", self.store.now_ms())  # for /metrics
        self._alive.touch()

    def tend_files(self) -> None:
        """One pass over what is to be written and what may go."""
        self.write_missing_history()
        for name, error in self.retention.clear_garbage().items():
            log.warning("not cleared yet", name=name, error=str(error))
        if self._cleared is None or time.monotonic() - self._cleared > CLEAR_EVERY_S:
            self._cleared = time.monotonic()
            self.retention.clear_old()

    def expire(self) -> None:
        """End the leases that ran out."""
        for job_id, attempt in self.store.expired(longest_s=4 * self.settings.lease_ttl_s):
            state = self.store.lose(job_id, attempt, only_expired=True)
            if state is not None:
                log.warning("lease expired", job_id=job_id, attempt=attempt, state=str(state))

    def write_missing_history(self) -> None:
        """committed.json of final jobs whose worker did not write it within a few seconds."""
        for job_id, finished_ms in self.store.lacking_history():
            if self.store.now_ms() - finished_ms <= WORKER_WRITES_MS:
                continue
            try:
                write_committed(job_id, self.store, self.artifacts)
            except redis.RedisError:
                raise
            except Exception as error:  # whatever a file system may raise: one job's files stop no other's
                log.warning("committed.json not written", job_id=job_id, error=f"{type(error).__name__}: {error}")

    def _repeat(self, once: Callable[[], None], stop: threading.Event) -> None:
        while not stop.wait(EVERY_S):
            try:
                once()
            except redis.RedisError as error:
                log.warning("store unreachable", error=str(error))
            except Exception as error:  # whatever a file system may raise: tried again
                log.warning("artifact store unreachable", error=f"{type(error).__name__}: {error}")


class Contact:
    """For how long Redis and this loop have been in touch, as Redis's clock and this process's own agree."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._longest_gap_s = max(5.0, ttl_s / 2)
        self._run_id = ""
        self._since = self._last = 0.0
        self._ahead_s = 0.0  # of Redis's clock before our monotonic one

    def lost(self) -> None:
        """A command failed."""
        self._run_id = ""

    def is_settled(self, store: JobStore) -> bool:
        """Has it lasted a TTL? Another server, a gap between rounds or a clock that jumped begins it anew."""
        server = store.redis.info("server")
        now, ahead_s = time.monotonic(), store.now_ms() / 1000 - time.monotonic()
        is_new = server["run_id"] != self._run_id or now - self._last > self._longest_gap_s
        if is_new or ahead_s - self._ahead_s > self._longest_gap_s:
            self._since = now
        self._run_id, self._last, self._ahead_s = server["run_id"], now, ahead_s
        return int(server["uptime_in_seconds"]) >= self._ttl_s and now - self._since >= self._ttl_s
