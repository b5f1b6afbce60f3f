"""The thread in a worker's main process that answers for its children.

It keeps the worker in the list of those alive, touches the liveness file, kills the process group of a job that neither
cancelled, timed out nor handed back in its time, and returns the jobs whose child is dead: killed, or of a former
incarnation of this worker. It asks the system, not Celery, so nothing is missed while Redis is away.
"""

import os
import shutil
import signal
import threading
import time

import redis
import structlog

from shared.jobs.errors import NotFound
from shared.jobs.record import JobRecord
from shared.jobs.store import PREFIX, JobStore
from shared.jobs.workers import WorkerList
from shared.settings import Settings
from workers.runtime.gpus import gpu_memory
from workers.runtime.processes import end_group, is_living_child

EVERY_S = 0.5
ALIVE_FOR_S = 10.0
GPUS_EVERY_S = 5.0

log = structlog.get_logger()


class Warden:
    """One per worker main process."""

    def __init__(self, name: str, pool: str, slots: int, settings: Settings, store: JobStore) -> None:
        self.name, self.pool, self.slots, self.settings, self.store = name, pool, slots, settings, store
        self._workers = WorkerList(store)
        self.exit_when_idle_s: float | None = None
        """After so long without a job the worker stops as SIGTERM would stop it: a job that comes meanwhile is handed
        back."""
        self._idle_since = time.monotonic()
        self._stopping_since: float | None = None
        self._gpus_told = -GPUS_EVERY_S
        self._wake = threading.Event()
        self._work = settings.data.resolve() / "work"
        self._alive_file = settings.data.resolve() / "run" / f"{name}.alive"
        self._thread = threading.Thread(target=self._watch, name="warden", daemon=True)

    def start(self) -> None:
        self._alive_file.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def child_lost(self) -> None:
        """A pool child died: look now, not at the next round."""
        self._wake.set()

    def stopping(self) -> None:
        """SIGTERM came: ask every job to hand itself back, and give it its grace."""
        self._stopping_since = time.monotonic()
        self._wake.set()

    def leave(self) -> None:
        """The worker is gone from the list."""
        self._workers.remove(self.name, self.pool)

    def round(self) -> None:
        """Look at every job this worker holds, once."""
        held = self.store.held_by(self.name)
        self._stop_when_idle(held)
        for job_id in held:
            record = self._record(job_id)
            if record is None or record.worker != self.name:
                continue
            if not is_living_child(record.pid):
                self._return(record)
            elif reason := self._reason_to_kill(record):
                log.warning("killing the job's process group", job_id=job_id, reason=reason)
                self._kill(record)
        if self._stopping_since is None:
            self._workers.announce(self.name, self.pool, self.slots, ALIVE_FOR_S)
            self._announce_gpus()
        else:
            self.store.request_hand_back(self.name)
        self._alive_file.touch()

    def _announce_gpus(self) -> None:
        if time.monotonic() - self._gpus_told > GPUS_EVERY_S and (gpus := gpu_memory()):
            self._workers.announce_gpus(self.name, self.pool, gpus)
            self._gpus_told = time.monotonic()

    def _stop_when_idle(self, held: list[str]) -> None:
        """Idle is a worker without a job while none waits in its pool: one that is still starting has work to do."""
        if self.exit_when_idle_s is None or self._stopping_since is not None:
            return
        now = time.monotonic()
        if held or self.store.redis.zcard(f"{PREFIX}queued:{self.pool}"):
            self._idle_since = now
        elif now - self._idle_since > self.exit_when_idle_s:
            log.info("idle: stopping", worker=self.name, idle_s=self.exit_when_idle_s)
            self._stopping_since = now
            os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self) -> None:
        while True:
            try:
                self.round()
            except (redis.RedisError, OSError) as error:
                log.warning("store unreachable", error=str(error), worker=self.name)
            self._wake.wait(EVERY_S)
            self._wake.clear()

    def _return(self, record: JobRecord) -> None:
        """The child that held this attempt is dead, or was a former incarnation's: the job goes back to its queue."""
        self._kill(record)
        for folder in self._work.glob(f"{record.id}-{record.attempt}-*"):
            shutil.rmtree(folder, ignore_errors=True)
        state = self.store.lose(record.id, record.attempt)
        log.warning("returned a lost job", job_id=record.id, attempt=record.attempt, state=str(state))

    def _kill(self, record: JobRecord) -> None:
        if record.pid:
            end_group(record.pid, record.id)

    def _record(self, job_id: str) -> JobRecord | None:
        try:
            return self.store.get(job_id)
        except NotFound:
            return None

    def _reason_to_kill(self, record: JobRecord) -> str | None:
        now_ms, grace_ms = self.store.now_ms(), self.settings.cancel_grace_s * 1000
        if record.cancel_requested_ms and now_ms - record.cancel_requested_ms > grace_ms:
            return "cancelled and still running"
        if record.deadline_ms and now_ms - record.deadline_ms > grace_ms:
            return "timed out and still running"
        stopping = self._stopping_since
        if stopping is not None and time.monotonic() - stopping > self.settings.stop_grace_s:
            return "the worker is stopping and the job did not hand back"
        return None
