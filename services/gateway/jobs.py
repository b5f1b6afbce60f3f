"""`/v1/jobs`: submit, list, look, cancel, retry, delete."""

import time
from contextlib import suppress
from typing import Annotated, Literal

from flask import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.gateway.auth import caller, require_owner
from services.gateway.bodies import read_json, validate, validate_query
from services.gateway.operations import KIND, OWNER, ULID, Answer, Operation, Routes, answer_nothing, answer_text
from services.gateway.redteam import authorise, keeps_sealed, one_at_a_time
from services.gateway.state import gateway
from services.gateway.submissions import (
    audit,
    audited_params,
    model_for,
    new_job,
    pinned,
    submission,
    submit_once,
)
from services.gateway.views import JobPage, JobView, as_json, item_json, job_json
from shared import tracing
from shared.broker import queue_key
from shared.jobs.catalog import catalog
from shared.jobs.errors import Conflict, NotFound
from shared.jobs.events import EventLog
from shared.jobs.history import read_committed
from shared.jobs.layout import job_folder
from shared.jobs.record import JobRecord
from shared.jobs.states import JobState
from shared.jobs.store import Query, Submitted
from shared.jobs.tokens import Scope

routes = Routes()
READ, WRITE = (Scope.JOBS_READ,), (Scope.JOBS_WRITE,)


class QueryModel(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _truth(text: object) -> object:
    return {"true": True, "false": False}.get(text, text) if isinstance(text, str) else text


Truth = Annotated[Literal[True, False], BeforeValidator(_truth)]
"""`true` or `false`, and nothing else that might mean it."""


class SubmitQuery(QueryModel):
    dry_run: Truth = False
    """Validate only: nothing is stored."""


class WaitQuery(QueryModel):
    wait_s: float = Field(0, ge=0, le=60)
    """Answer when the job is final, at most so many seconds later."""


class ListQuery(QueryModel):
    kind: Annotated[str, Field(pattern=KIND)] | None = None
    state: JobState | None = None
    label: list[Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,63}:[\s\S]{0,63}$")]] = []
    """key:value; repeated: all must hold."""
    owner: Annotated[str, Field(pattern=OWNER)] | None = None
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
            202: Answer(
                JobView, "Queued, or blocked until the jobs it refers to have succeeded", headers=("Location",)
            ),
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
    raw = read_json()
    body = validate(model_for(raw.value), raw.text)
    if query.dry_run:
        return answer_text(f'{{"kind": "{body.kind}", "params": {new_job(body).params}}}')
    by, parts, spec = submission(raw.value), gateway(), catalog()[body.kind]

    def attempt() -> Submitted:
        new = new_job(body)
        parts.refuse_when_full()
        with one_at_a_time(spec):
            if spec.scope is not None:
                audit(body.kind, "submit", f"{pinned(body.params)} {audited_params(body.params)}")
            submitted = parts.store.submit(new, by)
            keeps_sealed(spec, submitted.jobs)
            return submitted

    submitted = submit_once(by, attempt)
    tracing.annotate(job_id=submitted.id, kind=body.kind)
    if submitted.created:
        audit(body.kind, "submitted", submitted.id)
    record = submitted.record or find_job(submitted.id)
    status = 202 if submitted.created else 200
    return answer_text(_text(record), status, {"Location": f"/v1/jobs/{submitted.id}"})


@routes.add(
    Operation("GET", "/v1/jobs", "jobs", "List jobs, newest first", {200: Answer(JobPage)}, READ, (422,), ListQuery)
)
def list_jobs() -> Response:
    query = validate_query(ListQuery)
    owner = caller().owner if query.owner == "me" else query.owner
    labels = tuple((key, value) for key, _, value in (label.partition(":") for label in query.label))
    page = gateway().store.find(Query(query.kind, query.state, owner, labels, query.limit, query.cursor))
    items = ", ".join(item_json(record, _waiting_for(record)) for record in page.items)
    return answer_text(f'{{"items": [{items}], "next_cursor": {as_json(page.next_cursor)}}}')


@routes.add(
    Operation("GET", "/v1/jobs/{job_id}", "jobs", "One job", {200: Answer(JobView)}, READ, (404, 422), WaitQuery)
)
def get_job(job_id: str) -> Response:
    query = validate_query(WaitQuery)
    if query.wait_s:
        _wait_until_final(job_id, query.wait_s)
    return answer_text(_current(job_id))


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
    _own_record(job_id)
    gateway().store.cancel(job_id)
    return answer_text(_current(job_id), 202)


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
    record = _own_record(job_id)
    gateway().refuse_when_full()
    spec = catalog().get(record.kind)
    if spec is None:
        raise Conflict(f"job {job_id} can't be retried: this cluster has no kind {record.kind} any more")
    authorise(spec)
    message = gateway().messages.template(spec, record.priority)
    with one_at_a_time(spec):
        audit(spec.kind, "retry", job_id)
        gateway().store.retry(job_id, message, queue_key(spec.pool, record.priority))
    return answer_text(_current(job_id), 202)


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
    record = find_job(job_id)
    require_owner(record.owner, f"job {job_id}")
    with suppress(NotFound):  # its record is past its days: its files remain
        gateway().store.forget(job_id, with_files=True)
    gateway().artifacts.delete(job_folder(job_id))
    return answer_nothing()


def find_job(job_id: str) -> JobRecord:
    """The record, or what committed.json says of a job past its days. Raises NotFound."""
    try:
        return gateway().store.get(job_id)
    except NotFound:
        return read_committed(job_id, gateway().artifacts)


def _own_record(job_id: str) -> JobRecord:
    """The record, if the caller may change it. Raises NotFound, Problem 403, Conflict for a job past its days."""
    try:
        record = gateway().store.get(job_id)
    except NotFound:
        past = read_committed(job_id, gateway().artifacts)
        require_owner(past.owner, f"job {job_id}")
        raise Conflict(
            f"job {job_id} is {past.state} and past its days, only its files are kept: submit it again"
        ) from None
    require_owner(record.owner, f"job {job_id}")
    return record


def _current(job_id: str) -> str:
    return _text(find_job(job_id))


def _text(record: JobRecord) -> str:
    return job_json(record, _waiting_for(record))


def _waiting_for(record: JobRecord) -> list[str]:
    return gateway().store.waiting_for(record.id) if record.state is JobState.BLOCKED else []


def _wait_until_final(job_id: str, wait_s: float) -> None:
    """Return when the job is final, or after `wait_s`. Raises NotFound."""
    deadline = time.monotonic() + wait_s
    seen = EventLog(gateway().store).last_id(job_id)
    if find_job(job_id).state.is_final:
        return
    with gateway().tail.follow(job_id, seen) as events:
        while (left := deadline - time.monotonic()) > 0:
            heard = events.take(min(left, 5.0))
            if not heard or any(one.event.type == "state" for one in heard):
                state = gateway().store.state(job_id)
                if state is None or state.is_final:
                    return
