"""What the cluster answers, as models. Fields a newer cluster adds are kept (`extra="allow"`) and don't disturb."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

State = Literal["blocked", "queued", "running", "succeeded", "failed", "cancelled"]
Priority = Literal["low", "normal", "high"]
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Answer(BaseModel):
    """Anything the cluster answers."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Kind(Answer):
    """A kind of job: what it takes and what it gives."""

    kind: str
    version: int
    method: str
    pool: str
    summary: str
    params_schema: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of `params`.")
    result_schema: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of `result`.")


class Progress(Answer):
    """How far a job is."""

    done: int = 0
    total: int = 0
    unit: str = ""
    message: str = ""


class JobError(Answer):
    """Why a job failed, in the words of the person who submitted it."""

    type: str
    message: str
    retryable: bool = False


class Artifact(Answer):
    """A finished file of a job."""

    name: str
    media_type: str = "application/octet-stream"
    bytes: int
    sha256: str
    committed: bool = True


class Job(Answer):
    """A job's record. In lists `params`, `result` and `artifacts` are left out."""

    id: str
    kind: str
    kind_version: int = 1
    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    owner: str = ""
    state: State
    priority: Priority = "normal"
    params: dict[str, Any] = Field(default_factory=dict)
    attempt: int = 0
    losses: int = 0
    max_attempts: int = 3
    timeout_s: float | None = None
    waiting_for: list[str] = Field(default_factory=list)
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    timings: dict[str, float] = Field(default_factory=dict, description="Seconds by name.")
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: JobError | None = None
    artifacts: list[Artifact] = Field(default_factory=list)
    worker: str | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def has_succeeded(self) -> bool:
        return self.state == "succeeded"


class Event(Answer):
    """One event of a job's stream: `state`, `progress`, `metric`, `log`, `token` or `gap`."""

    id: str
    type: str
    attempt: int | None = None
    data: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _attempt_beside_the_data(cls, told: Any) -> Any:
        """The API tells the attempt among the event's own fields."""
        if not isinstance(told, dict) or "attempt" not in told.get("data", {}):
            return told
        data = dict(told["data"])
        return {**told, "attempt": data.pop("attempt"), "data": data}


class EventPage(Answer):
    """Some events, and where to go on."""

    items: list[Event]
    next_after: str | None = None


class Uploaded(Answer):
    """A stored file; `ref` goes into Params."""

    ref: str
    bytes: int
    media_type: str = "application/octet-stream"


class Sweep(Answer):
    """A grid of jobs submitted as one."""

    id: str
    name: str | None = None
    kind: str | None = None
    jobs: list[str] = Field(default_factory=list)
    total: int = 0
    states: dict[str, int] = Field(default_factory=dict, description="Jobs by state.")
    created_at: datetime | None = None


class Queue(Answer):
    """One pool of workers and what waits for it."""

    pool: str
    waiting: int
    running: int
    slots: int
    workers: int
    oldest_wait_s: float | None = None
    desired_workers: int = 0


class Me(Answer):
    """Who the cluster takes you for."""

    owner: str
    scopes: list[str]


class Token(Answer):
    """An access token; `token` is there once, when it is made."""

    id: str
    name: str = ""
    owner: str = ""
    scopes: list[str] = Field(default_factory=list)
    token: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class AllowedModel(Answer):
    """A model that `dsn.*` may attack, as `allowed:<name>`."""

    name: str
    ref: str
    digest: str = ""
    added_by: str = ""
    added_at: datetime | None = None


class AuditEntry(Answer):
    """One line of the red-team audit, chained to the one before by its hash."""

    id: str
    at: datetime | None = None
    owner: str = ""
    action: str = ""
    detail: Any = None
    hash: str = ""


class AuditVerdict(Answer):
    """Whether the audit's chain of hashes is whole."""

    ok: bool
    entries: int
    broken_at: str | None = None


class Collected(Answer):
    """What garbage collection removed, or would."""

    removed: list[str] = Field(default_factory=list)
    bytes: int = 0
    dry_run: bool = False


class Reindexed(Answer):
    """How many records were rebuilt from the artifact store."""

    restored: int
    skipped: int


class Health(Answer):
    """Whether the cluster is up; `details` is what it said."""

    ok: bool
    details: dict[str, Any] = Field(default_factory=dict)
