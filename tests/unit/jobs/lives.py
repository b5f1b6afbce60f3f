"""A store with a clock that the test turns, and the shortest ways to submit, run and end a job."""

from typing import Any

from shared.jobs.record import JobRecord
from shared.jobs.states import JobState
from shared.jobs.store import Claim, JobStore, NewJob, Outcome, Submission, Submitted, Worker
from tests.unit.jobs.store_world import (
    CLOCK,
    START_MS,
    TEMPLATE,
    FaultyRedis,
    Message,
    Snapshot,
    check,
    scripts_with_test_clock,
)

BY = Submission("ann")


def new_job(**changes: Any) -> NewJob:
    fields: dict[str, Any] = {
        "kind": "test.noop", "kind_version": 1, "pool": "test", "params": "{}", "message": TEMPLATE, "queue": "test:3",
    }  # fmt: skip
    return NewJob(**(fields | changes))


class Lives:
    """One store."""

    def __init__(self, url: str) -> None:
        self.redis = FaultyRedis.from_url(url, decode_responses=True)
        self.redis.set(CLOCK, START_MS)
        self.store = JobStore(self.redis, scripts_with_test_clock())

    def wait(self, seconds: float) -> None:
        self.redis.incrby(CLOCK, int(seconds * 1000))

    def submit(self, by: Submission = BY, **changes: Any) -> str:
        return self.submitted(by, **changes).id

    def submitted(self, by: Submission = BY, **changes: Any) -> Submitted:
        return self.store.submit(new_job(**changes), by)

    def pop(self, queue: str = "test:3") -> Message | None:
        text = self.redis.rpop(queue)
        return Message(queue, text) if text else None

    def claim(self, job_id: str, worker: str = "w@host", ttl_s: float = 15.0) -> Claim:
        claimed = self.store.claim(job_id, self.record(job_id).attempt + 1, Worker(worker, 1, ttl_s, threads=2))
        assert claimed is not None
        return claimed[0]

    def end(self, job_id: str, state: JobState = JobState.SUCCEEDED, **fields: str) -> Claim:
        """Run it and let it end so."""
        claim = self.claim(job_id)
        error = "error" if state is JobState.FAILED else ""
        self.store.commit(claim, Outcome(state, {"prefix": claim.prefix, "result": "{}", **fields}, error))
        return claim

    def retry(self, job_id: str, queue: str = "test:3") -> JobState:
        return self.store.retry(job_id, TEMPLATE, queue)

    def record(self, job_id: str) -> JobRecord:
        return self.store.get(job_id)

    def state(self, job_id: str) -> JobState:
        return self.record(job_id).state

    def check(self) -> Snapshot:
        """Every invariant holds."""
        now = Snapshot(self.redis)
        check(now)
        return now
