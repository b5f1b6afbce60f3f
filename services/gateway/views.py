"""The answers of the API as models: they document the responses, and the records are rendered to fit them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.jobs.record import JobRecord, Priority
from shared.jobs.states import JobState
from shared.jobs.tokens import Scope


class View(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ProgressView(View):
    done: int
    total: int
    unit: str
    message: str


class ErrorView(View):
    type: str
    message: str
    retryable: bool


class ArtifactView(View):
    name: str
    media_type: str
    bytes: int
    sha256: str
    committed: bool
    """True once the job has succeeded."""


class JobItem(View):
    """A job in a listing: without params, result and artifacts."""

    id: str
    kind: str
    kind_version: int
    name: str | None
    labels: dict[str, str]
    owner: str
    state: JobState
    priority: Priority
    attempt: int
    losses: int
    max_attempts: int
    timeout_s: float | None
    waiting_for: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    timings: dict[str, float]
    progress: ProgressView | None
    error: ErrorView | None
    worker: str | None


class JobView(JobItem):
    """A job."""

    params: dict[str, Any]
    result: dict[str, Any] | None
    artifacts: list[ArtifactView]


class JobPage(View):
    items: list[JobItem]
    next_cursor: str | None


class ArtifactList(View):
    items: list[ArtifactView]


class KindView(View):
    kind: str
    version: int
    method: str
    pool: str
    summary: str
    params_schema: dict[str, Any]
    result_schema: dict[str, Any]


class KindList(View):
    items: list[KindView]


class DryRunView(View):
    """What a dry run answers: the params as they would be stored."""

    kind: str
    params: dict[str, Any]


class EventView(View):
    id: str
    type: str
    data: dict[str, Any]


class EventList(View):
    items: list[EventView]
    next_after: str | None
    """Pass it as `after` to go on; null when the job is final and everything has been read."""


class FileView(View):
    ref: str
    bytes: int
    media_type: str


class SweepItem(View):
    id: str
    kind: str
    name: str | None
    labels: dict[str, str]
    owner: str
    created_at: datetime
    total: int
    states: dict[str, int]


class SweepView(SweepItem):
    jobs: list[str]
    grid: dict[str, list[Any]]
    seeds: list[int] | None


class SweepPage(View):
    items: list[SweepItem]
    next_cursor: str | None


class MeView(View):
    owner: str
    scopes: list[Scope]


class QueueView(View):
    pool: str
    waiting: int
    running: int
    slots: int
    workers: int
    oldest_wait_s: float
    desired_workers: int


class QueueList(View):
    items: list[QueueView]


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]


class HealthView(View):
    status: str = Field(examples=["ok"])


class TokenView(View):
    id: str
    name: str
    owner: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewTokenView(TokenView):
    token: str
    """Shown this once."""


class TokenList(View):
    items: list[TokenView]


class AllowedView(View):
    name: str
    ref: str
    digest: str
    added_by: str
    added_at: datetime


class AllowedList(View):
    items: list[AllowedView]


class AuditView(View):
    id: str
    at: datetime
    owner: str
    action: str
    detail: str
    hash: str


class AuditList(View):
    items: list[AuditView]
    next_after: str | None


class AuditVerdict(View):
    ok: bool
    entries: int
    broken_at: str | None


class GcView(View):
    removed: list[str]
    bytes: int
    dry_run: bool


class ReindexView(View):
    restored: int
    skipped: int


as_json = json.JSONEncoder(ensure_ascii=False).encode


def rfc3339(ms: int | None) -> str | None:
    """Milliseconds since the epoch as RFC 3339 UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def item_json(record: JobRecord, waiting_for: list[str] | None = None) -> str:
    """A record as the text of a `JobItem`. What is kept as JSON goes out as it is; ids and states need no escaping."""
    return (
        f'{{"id": "{record.id}", "kind": "{record.kind}", "kind_version": {record.kind_version}, '
        f'"name": {_text(record.name)}, "labels": {record.labels}, "owner": {_text(record.owner)}, '
        f'"state": "{record.state.value}", "priority": "{record.priority.value}", '
        f'"attempt": {record.attempt}, "losses": {record.losses}, "max_attempts": {record.max_attempts}, '
        f'"timeout_s": {_number(record.timeout_ms)}, "waiting_for": {as_json(waiting_for) if waiting_for else "[]"}, '
        f'"created_at": {_time(record.created_ms)}, "started_at": {_time(record.started_ms)}, '
        f'"finished_at": {_time(record.finished_ms)}, "cancel_requested_at": {_time(record.cancel_requested_ms)}, '
        f'"timings": {_timings(record)}, "progress": {record.progress or "null"}, '
        f'"error": {"null" if record.error is None else as_json(asdict(record.error))}, '
        f'"worker": {_text(record.worker)}}}'
    )


def job_json(record: JobRecord, waiting_for: list[str] | None = None) -> str:
    """A record as the text of a `JobView`."""
    artifacts = as_json(artifact_views(record)) if record.artifacts != "[]" else "[]"
    own = f'"params": {record.params}, "result": {record.result or "null"}, "artifacts": {artifacts}'
    return f"{item_json(record, waiting_for)[:-1]}, {own}}}"


def _text(value: str | None) -> str:
    return "null" if value is None else as_json(value)


def _number(ms: int | None) -> str:
    return "null" if ms is None else str(ms / 1000)


def _time(ms: int | None) -> str:
    return "null" if ms is None else f'"{rfc3339(ms)}"'


def _timings(record: JobRecord) -> str:
    if not record.started_ms:
        return "{}"
    waited = {"queued_s": record.waited_ms / 1000, "running_s": record.ran_ms / 1000}
    return as_json(waited | (json.loads(record.timings) if record.timings else {}))


def artifact_views(record: JobRecord) -> list[dict[str, Any]]:
    committed = record.state is JobState.SUCCEEDED
    return [{**entry, "committed": committed} for entry in json.loads(record.artifacts)]
