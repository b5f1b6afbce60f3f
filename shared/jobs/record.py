"""A job's record as the store keeps it.

Params, result, artifacts and the like stay the JSON text they were written as.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.jobs.states import JobState


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True)
class JobError:
    """Why a job failed, in the words of the person who submitted it."""

    type: str
    message: str
    retryable: bool


@dataclass(frozen=True)
class JobRecord:
    """Everything known about one job. Times are milliseconds of Redis's clock."""

    id: str
    kind: str
    kind_version: int
    pool: str
    owner: str
    state: JobState
    priority: Priority
    name: str | None
    labels: str  # JSON object
    params: str  # JSON object
    attempt: int  # claims so far; never resets
    losses: int  # lost workers and retryable errors since the last user's retry
    max_attempts: int
    timeout_ms: int | None
    waits: tuple[str, ...]  # the jobs whose artifacts it needs
    sweep: str | None
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    cancel_requested_ms: int | None
    claimed_ms: int | None
    deadline_ms: int | None  # when its running time is used up
    claim: str | None
    worker: str | None
    pid: int | None
    threads: int | None
    waited_ms: int
    ran_ms: int
    progress: str | None  # JSON object
    result: str | None  # JSON object
    error: JobError | None
    artifacts: str  # JSON list of {name, media_type, bytes, sha256}
    prefix: str | None  # of the newest claim's files, "<attempt>-<claim>"; the committed ones once it succeeded
    checkpoint: str | None  # JSON, written and read by the runtime
    timings: str | None  # JSON object, seconds by name
    wait_ms: int = 0  # of the newest claim, in its queue
    traceparent: str | None = None  # W3C trace context of the request that submitted it

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> "JobRecord":
        return cls(
            id=fields["id"],
            kind=fields["kind"],
            kind_version=int(fields["kind_version"]),
            pool=fields["pool"],
            owner=fields["owner"],
            state=JobState(fields["state"]),
            priority=Priority(fields["priority"]),
            name=fields.get("name"),
            labels=fields.get("labels", "{}"),
            params=fields.get("params", "{}"),
            attempt=int(fields["attempt"]),
            losses=int(fields["losses"]),
            max_attempts=int(fields["max_attempts"]),
            timeout_ms=_integer(fields, "timeout_ms"),
            waits=tuple(fields.get("waits", "").split()),
            sweep=fields.get("sweep"),
            created_ms=int(fields["created_ms"]),
            started_ms=_integer(fields, "started_ms"),
            finished_ms=_integer(fields, "finished_ms"),
            cancel_requested_ms=_integer(fields, "cancel_requested_ms"),
            claimed_ms=_integer(fields, "claimed_ms"),
            deadline_ms=_integer(fields, "deadline_ms"),
            claim=fields.get("claim"),
            worker=fields.get("worker"),
            pid=_integer(fields, "pid"),
            threads=_integer(fields, "threads"),
            waited_ms=int(fields.get("waited_ms", 0)),
            ran_ms=int(fields.get("ran_ms", 0)),
            progress=fields.get("progress"),
            result=fields.get("result"),
            error=_error(fields),
            artifacts=fields.get("artifacts", "[]"),
            prefix=fields.get("prefix"),
            checkpoint=fields.get("checkpoint"),
            timings=fields.get("timings"),
            wait_ms=int(fields.get("wait_ms", 0)),
            traceparent=fields.get("traceparent"),
        )


SUMMARY_FIELDS = (
    "id", "kind", "kind_version", "pool", "owner", "state", "priority", "name", "labels", "attempt", "losses",
    "max_attempts", "timeout_ms", "waits", "sweep", "created_ms", "started_ms", "finished_ms", "cancel_requested_ms",
    "claimed_ms", "claim", "worker", "waited_ms", "ran_ms", "progress", "error_type", "error_message",
    "error_retryable", "timings",
)  # fmt: skip
"""What a listing reads: all but params, result, artifacts."""


def _integer(fields: dict[str, str], name: str) -> int | None:
    text = fields.get(name)
    return None if text is None else int(text)


def _error(fields: dict[str, str]) -> JobError | None:
    if "error_type" not in fields:
        return None
    return JobError(fields["error_type"], fields.get("error_message", ""), fields.get("error_retryable") == "1")
