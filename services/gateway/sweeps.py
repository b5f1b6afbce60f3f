"""`/v1/sweeps`: the product of a grid and seeds as jobs, all or none."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, cast

from flask import Response
from pydantic import Field, ValidationError

from services.gateway.auth import require_owner
from services.gateway.bodies import read_json, validate, validate_query
from services.gateway.jobs import READ, WRITE, QueryModel
from services.gateway.operations import ULID, Answer, Operation, Routes, answer_json
from services.gateway.problems import field_errors
from services.gateway.redteam import keeps_sealed, one_at_a_time
from services.gateway.state import gateway
from services.gateway.submissions import Terms, audit, model_for, new_job, submission, submit_once
from services.gateway.views import SweepPage, SweepView, rfc3339
from shared.jobs.catalog import catalog
from shared.jobs.errors import BadRequest, Conflict, FieldError, NotFound
from shared.jobs.spec import JobSpec, Params, Text
from shared.jobs.store import NewJob, Submitted
from shared.jobs.submissions import SWEEP_BYTES
from shared.jobs.sweeps import Sweep, Sweeps, expand

routes = Routes()


class SweepBody(Terms):
    """A sweep of one kind."""

    kind: str
    params: dict[str, Any] = Field(default_factory=dict)
    """What all jobs share."""
    grid: dict[Annotated[Text, Field(min_length=1, max_length=200)], list[Any]] = Field(
        default_factory=dict, max_length=16
    )
    """Values by field path (`policies.0.quantity`)."""
    seeds: list[Annotated[int, Field(ge=0, le=2**32 - 1)]] | None = Field(None, min_length=1, max_length=1000)
    """Every combination runs once with each."""


class PageQuery(QueryModel):
    limit: int = Field(50, ge=1, le=200)
    cursor: Annotated[str, Field(pattern=ULID)] | None = None


@routes.add(
    Operation(
        "POST",
        "/v1/sweeps",
        "sweeps",
        "Submit a sweep: all of its jobs or none",
        {
            202: Answer(SweepView, "All jobs are queued", headers=("Location",)),
            200: Answer(SweepView, "The same key again: the same sweep"),
        },
        WRITE,
        (400, 413, 415, 422, 429, 503),
        None,
        SweepBody,
        ("Idempotency-Key",),
    )
)
def submit_sweep() -> Response:
    raw = read_json()
    body = validate(SweepBody, raw.text)
    by = submission(raw.value)

    def attempt() -> Submitted:
        jobs = _jobs(body)
        gateway().refuse_when_full()
        with one_at_a_time(catalog()[body.kind], len(jobs)):
            audit(body.kind, "submit", f"sweep of {len(jobs)}")
            submitted = gateway().store.submit_sweep(jobs, _about(body), by)
            keeps_sealed(catalog()[body.kind], submitted.jobs)
            return submitted

    submitted = submit_once(by, attempt)
    if submitted.created:
        audit(body.kind, "submitted", f"sweep {submitted.id}")
    status = 202 if submitted.created else 200
    return answer_json(_view(submitted.id), status, {"Location": f"/v1/sweeps/{submitted.id}"})


@routes.add(
    Operation(
        "GET", "/v1/sweeps", "sweeps", "List sweeps, newest first", {200: Answer(SweepPage)}, READ, (422,), PageQuery
    )
)
def list_sweeps() -> Response:
    query = validate_query(PageQuery)
    ids, cursor = Sweeps(gateway().store).page(query.limit, query.cursor)
    items = []
    for sweep_id in ids:
        with suppress(NotFound):  # deleted meanwhile
            items.append(_item(Sweeps(gateway().store).find(sweep_id)))
    return answer_json({"items": items, "next_cursor": cursor})


@routes.add(Operation("GET", "/v1/sweeps/{sweep_id}", "sweeps", "One sweep", {200: Answer(SweepView)}, READ, (404,)))
def get_sweep(sweep_id: str) -> Response:
    return answer_json(_view(sweep_id))


@routes.add(
    Operation(
        "POST",
        "/v1/sweeps/{sweep_id}/cancel",
        "sweeps",
        "Cancel all of a sweep's unfinished jobs",
        {202: Answer(SweepView, "Asked")},
        WRITE,
        (404,),
    )
)
def cancel_sweep(sweep_id: str) -> Response:
    sweeps = Sweeps(gateway().store)
    require_owner(sweeps.find(sweep_id).owner, f"sweep {sweep_id}")
    for job_id in sweeps.jobs(sweep_id):
        with suppress(Conflict, NotFound):  # finished already, or deleted meanwhile
            gateway().store.cancel(job_id)
    return answer_json(_view(sweep_id), 202)


def _jobs(body: SweepBody) -> list[NewJob]:
    """Every combination, validated by the kind's own model. Raises BadRequest."""
    model = model_for({"kind": body.kind})
    spec = catalog()[body.kind]
    terms = {name: getattr(body, name) for name in Terms.model_fields}
    jobs: list[NewJob] = []
    left = SWEEP_BYTES  # stop before a thousand copies of a large body fill this process's memory
    for params in expand(body.params, body.grid, body.seeds):
        valid = _validated(spec, params, body.grid)
        jobs.append(new_job(model.model_construct(kind=body.kind, params=valid, **terms)))
        left -= len(jobs[-1].params)
        if left < 0:
            message = f"the jobs' params are larger than {SWEEP_BYTES} bytes together: upload what they share"
            raise BadRequest(message, [FieldError(("body", "params"), message, "sweep")])
    return jobs


def _validated(spec: JobSpec, params: dict[str, Any], grid: Mapping[str, list[Any]]) -> Params:
    """One combination. Raises BadRequest; what comes from the grid is named there."""
    try:
        return spec.params.model_validate_json(json.dumps(params), strict=True)
    except ValidationError as error:
        errors = field_errors(error)
        for wrong in errors:
            wrong["loc"] = _place(cast(list[str | int], wrong["loc"]), grid)
        raise BadRequest("a combination of the sweep does not fit the schema", errors) from None


def _place(loc: list[str | int], grid: Mapping[str, list[Any]]) -> list[str | int]:
    """Where in the body a field of a combination came from."""
    for path in sorted(grid, key=len, reverse=True):
        if f"{'.'.join(map(str, loc))}.".startswith(f"{path}."):
            return ["body", "grid", path]
    return ["body", "params", *loc]


def _about(body: SweepBody) -> dict[str, str]:
    about = {"kind": body.kind, "labels": json.dumps(body.labels), "grid": json.dumps(body.grid)}
    about |= {"name": body.name} if body.name is not None else {}
    return about | ({"seeds": json.dumps(body.seeds)} if body.seeds is not None else {})


def _item(sweep: Sweep) -> dict[str, Any]:
    states = Sweeps(gateway().store).states(sweep.id)
    return {
        "id": sweep.id,
        "kind": sweep.kind,
        "name": sweep.name,
        "labels": sweep.labels,
        "owner": sweep.owner,
        "created_at": rfc3339(sweep.created_ms),
        "total": sum(states.values()),
        "states": states,
    }


def _view(sweep_id: str) -> dict[str, Any]:
    sweeps = Sweeps(gateway().store)
    sweep = sweeps.find(sweep_id)
    return {**_item(sweep), "jobs": sweeps.jobs(sweep_id), "grid": sweep.grid, "seeds": sweep.seeds}
