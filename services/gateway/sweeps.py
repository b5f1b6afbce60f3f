"""`/v1/sweeps`: the product of a grid and seeds as jobs, all or none."""

import json
from typing import Annotated, Any

from flask import Response
from pydantic import Field

from services.gateway.auth import caller
from services.gateway.bodies import parse_object, read_body, validate, validate_query
from services.gateway.jobs import READ, WRITE, QueryModel
from services.gateway.operations import ULID, Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from services.gateway.state import gateway
from services.gateway.submissions import Terms, audit, model_for, new_job, submission, validated_params
from services.gateway.views import SweepPage, SweepView, rfc3339
from shared.jobs.catalog import catalog
from shared.jobs.errors import Conflict
from shared.jobs.spec import Text
from shared.jobs.store import NewJob
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
        {202: Answer(SweepView, "All jobs are queued"), 200: Answer(SweepView, "The same key again: the same sweep")},
        WRITE,
        (400, 413, 415, 422, 429, 503),
        None,
        SweepBody,
        ("Idempotency-Key",),
    )
)
def submit_sweep() -> Response:
    data = read_body(gateway().settings.max_body)
    raw = parse_object(data)
    body = validate(SweepBody, data)
    jobs = _jobs(body)
    gateway().refuse_when_full()
    about = {"kind": body.kind, "labels": json.dumps(body.labels), "grid": json.dumps(body.grid)}
    about |= {"name": body.name} if body.name is not None else {}
    about |= {"seeds": json.dumps(body.seeds)} if body.seeds is not None else {}
    submitted = gateway().store.submit_sweep(jobs, about, submission(raw))
    if submitted.created:
        for job_id in submitted.jobs:
            audit(catalog()[body.kind], job_id)
    return answer_json(
        _view(submitted.id), 202 if submitted.created else 200, {"Location": f"/v1/sweeps/{submitted.id}"}
    )


@routes.add(
    Operation(
        "GET", "/v1/sweeps", "sweeps", "List sweeps, newest first", {200: Answer(SweepPage)}, READ, (422,), PageQuery
    )
)
def list_sweeps() -> Response:
    query = validate_query(PageQuery)
    ids, cursor = Sweeps(gateway().store).page(query.limit, query.cursor)
    return answer_json({"items": [_item(Sweeps(gateway().store).find(id)) for id in ids], "next_cursor": cursor})


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
    if not caller().may_change(sweeps.find(sweep_id).owner):
        raise Problem("forbidden", "the sweep is another owner's; changing it needs the scope admin")
    for job_id in sweeps.jobs(sweep_id):
        try:
            gateway().store.cancel(job_id)
        except Conflict:  # finished already
            continue
    return answer_json(_view(sweep_id), 202)


def _jobs(body: SweepBody) -> list[NewJob]:
    """Every combination, validated by the kind's own model. Raises BadRequest."""
    model = model_for({"kind": body.kind})
    spec = catalog()[body.kind]
    terms = {name: getattr(body, name) for name in Terms.model_fields}
    jobs = []
    for params in expand(body.params, body.grid, body.seeds):
        valid = validated_params(spec, params, ("body", "params"))
        jobs.append(new_job(model.model_construct(kind=body.kind, params=valid, **terms)))
    return jobs


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
