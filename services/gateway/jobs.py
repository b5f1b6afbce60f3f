"""`/v1/jobs`: submit, list, look, cancel, retry, delete."""

import contextlib
import json
import time
from typing import Annotated, Any

from flask import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.gateway.auth import caller
from services.gateway.bodies import parse_object, read_body, validate, validate_query
from services.gateway.operations import ULID, Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from services.gateway.state import gateway
from services.gateway.submissions import audit, model_for, new_job, submission
from services.gateway.views import JobPage, JobView, job_item, job_view
from shared.broker import queue_key
from shared.jobs.catalog import catalog
from shared.jobs.errors import BadRequest, FieldError, NotFound
from shared.jobs.history import read_committed
from shared.jobs.layout import job_folder
from shared.jobs.record import JobRecord
from shared.jobs.states import JobState
from shared.jobs.store import Query
from shared.jobs.tokens import Scope

routes = Routes()
READ, WRITE = (Scope.JOBS_READ,), (Scope.JOBS_WRITE,)


class QueryModel(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SubmitQuery(QueryModel):
    dry_run: bool = False
    """Validate only: nothing is stored."""


class WaitQuery(QueryModel):
    wait_s: float = Field(0, ge=0, le=60)
    """Answer when the job is final, at most so many seconds later."""


def _labels(text: str) -> str:
    if ":" not in text:
        raise ValueError("must be key:value")
    return text


class ListQuery(QueryModel):
    kind: str | None = None
    state: JobState | None = None
    label: list[Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,63}:[\s\S]{0,63}$"), AfterValidator(_labels)]] = []
    """key:value; repeated: all must hold."""
    owner: Annotated[str, Field(max_length=200)] | None = None
    """`me`, or an owner's name."""
    limit: int = Field(50, ge=1, le=200)
    cursor: Annotated[str, Field(pattern=ULID)] | None = None


@routes.add(
    Operation(
        "POST",
        "/v1/jobs",
        "jobs",
        "Submit a job",
        {
            202: Answer(JobView, "Queued, or blocked until the jobs it refers to have succeeded"),
            200: Answer(None, "The same submission again (its job), or a dry run (the validated params)"),
        },
        WRITE,
        (400, 413, 415, 422, 429, 503),
        SubmitQuery,
        "submit",
        ("Idempotency-Key",),
    )
)
def submit_job() -> Response:
    query = validate_query(SubmitQuery)
    data = read_body(gateway().settings.max_body)
    raw = parse_object(data)
    body = validate(model_for(raw), data)
    new = new_job(body)
    if query.dry_run:
        return answer_json({"kind": new.kind, "params": json.loads(new.params)})
    gateway().refuse_when_full()
    submitted = gateway().store.submit(new, submission(raw))
    if submitted.created:
        audit(catalog()[new.kind], submitted.id)
    status = 202 if submitted.created else 200
    return answer_json(_current(submitted.id), status, {"Location": f"/v1/jobs/{submitted.id}"})


@routes.add(
    Operation("GET", "/v1/jobs", "jobs", "List jobs, newest first", {200: Answer(JobPage)}, READ, (422,), ListQuery)
)
def list_jobs() -> Response:
    query = validate_query(ListQuery)
    owner = caller().owner if query.owner == "me" else query.owner
    labels = tuple((key, value) for key, _, value in (label.partition(":") for label in query.label))
    page = gateway().store.find(Query(query.kind, query.state, owner, labels, query.limit, query.cursor))
    items = [job_item(record, _waiting_for(record)) for record in page.items]
    return answer_json({"items": items, "next_cursor": page.next_cursor})


@routes.add(
    Operation("GET", "/v1/jobs/{job_id}", "jobs", "One job", {200: Answer(JobView)}, READ, (404, 422), WaitQuery)
)
def get_job(job_id: str) -> Response:
    query = validate_query(WaitQuery)
    if query.wait_s:
        _wait_until_final(job_id, query.wait_s)
    return answer_json(_current(job_id))


@routes.add(
    Operation(
        "POST",
        "/v1/jobs/{job_id}/cancel",
        "jobs",
        "Cancel a job; it ends cancelled",
        {202: Answer(JobView, "Cancelled, or asked to stop")},
        WRITE,
        (404, 409),
    )
)
def cancel_job(job_id: str) -> Response:
    owned(job_id)
    gateway().store.cancel(job_id)
    return answer_json(_current(job_id), 202)


@routes.add(
    Operation(
        "POST",
        "/v1/jobs/{job_id}/retry",
        "jobs",
        "Queue a failed or cancelled job again, from its last checkpoint",
        {202: Answer(JobView, "Queued again")},
        WRITE,
        (404, 409, 503),
    )
)
def retry_job(job_id: str) -> Response:
    record = owned(job_id)
    gateway().refuse_when_full()
    spec = catalog().get(record.kind)
    if spec is None:
        raise BadRequest(
            f"this cluster has no kind {record.kind}", [FieldError(("path", "job_id"), "unknown kind", "unknown_kind")]
        )
    message = gateway().messages.template(spec, record.priority)
    gateway().store.retry(job_id, message, queue_key(spec.pool, record.priority))
    return answer_json(_current(job_id), 202)


@routes.add(
    Operation(
        "DELETE",
        "/v1/jobs/{job_id}",
        "jobs",
        "Remove a finished job, its artifacts, and free its key",
        {204: Answer(None, "Gone", ())},
        WRITE,
        (404, 409),
    )
)
def delete_job(job_id: str) -> Response:
    record = owned(job_id)
    with contextlib.suppress(NotFound):  # its record is past its days: the files remain
        gateway().store.forget(record.id, with_files=True)
    gateway().artifacts.delete(job_folder(record.id))
    return Response(status=204)


def find_job(job_id: str) -> JobRecord:
    """The record, or what committed.json says of a job past its days. Raises NotFound."""
    try:
        return gateway().store.get(job_id)
    except NotFound:
        return read_committed(job_id, gateway().artifacts)


def owned(job_id: str) -> JobRecord:
    """The record, if the caller may change it. Raises NotFound, Problem 403."""
    record = find_job(job_id)
    if not caller().may_change(record.owner):
        raise Problem("forbidden", f"job {job_id} is {record.owner}'s; changing another's needs the scope admin")
    return record


def _current(job_id: str) -> dict[str, Any]:
    record = find_job(job_id)
    return job_view(record, _waiting_for(record))


def _waiting_for(record: JobRecord) -> list[str]:
    return gateway().store.waiting_for(record.id) if record.state is JobState.BLOCKED else []


def _wait_until_final(job_id: str, wait_s: float) -> None:
    """Return when the job is final, or after `wait_s`. Raises NotFound."""
    deadline = time.monotonic() + wait_s
    if find_job(job_id).state.is_final:
        return
    with gateway().tail.follow(job_id, "0-0") as events:
        while (left := deadline - time.monotonic()) > 0:
            event = events.get(min(left, 1.0))
            if event is None or event.type == "state":
                state = gateway().store.state(job_id)
                if state is None or state.is_final:
                    return
