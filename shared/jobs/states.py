"""The states of a job and the arrows between them."""

from enum import StrEnum


class JobState(StrEnum):
    BLOCKED = "blocked"  # waits for a job whose artifact it needs
    QUEUED = "queued"  # its message lies in its pool's list, or is due later
    RUNNING = "running"  # exactly one claim holds its lease
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
UNFINISHED = frozenset(JobState) - FINAL

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.BLOCKED: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.BLOCKED}),  # a person's retry
    JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.BLOCKED}),  # a person's retry
}
