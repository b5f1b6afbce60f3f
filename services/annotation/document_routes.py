"""`/v1/projects/{project_id}/documents`: what an annotator sees, the queue, and the events."""

from datetime import UTC, datetime
from typing import Any

from flask import Response
from pydantic import BaseModel, ConfigDict

from services.annotation.counting import counters_of
from services.annotation.decisions import CantDo, check
from services.annotation.hints import hints, without_relation
from services.annotation.log import Event, Stale
from services.annotation.project_routes import READ, WRITE, projects
from services.annotation.projects import Project
from services.annotation.views import DocumentList, DocumentView, EventLogView, Name, NewEvent, NextView, Recorded
from services.gateway.auth import caller
from services.gateway.bodies import read_model, validate_query
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from shared.jobs.errors import BadRequest, FieldError, NotFound

routes = Routes()
VERSION_HEADER = "X-Document-Version"


class AnnotatorQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    annotator: Name | None = None
    """Left out: the caller."""


@routes.add(
    Operation(
        "GET",
        "/v1/projects/{project_id}/next",
        "documents",
        "The next document of an annotator's queue",
        {200: Answer(NextView)},
        READ,
        query=AnnotatorQuery,
    )
)
def next_document(project_id: str) -> Response:
    """Begun ones first, then those nobody has begun, in order."""
    annotator = validate_query(AnnotatorQuery).annotator or caller().owner
    project = projects().find(project_id)
    left, begun = [], []
    for number, events in enumerate(project.all_events()):
        people, wanted = project.active(number, events), project.assigned(number)
        is_free = not wanted and (annotator in people or not people)
        if (annotator in wanted or is_free) and not project.list_of(number, annotator, events).is_complete:
            left.append(number)
            begun += [number] if annotator in people else []
    return answer_json({"document": next(iter([*begun, *left]), None), "left": len(left)})


@routes.add(
    Operation(
        "GET",
        "/v1/projects/{project_id}/documents",
        "documents",
        "Every document with who works on it",
        {200: Answer(DocumentList)},
        READ,
    )
)
def list_documents(project_id: str) -> Response:
    project = projects().find(project_id)
    return answer_json({"items": [_item(project, n, events) for n, events in enumerate(project.all_events())]})


@routes.add(
    Operation(
        "GET",
        "/v1/projects/{project_id}/documents/{document_id}",
        "documents",
        "A document with an annotator's list",
        {200: Answer(DocumentView, headers=(VERSION_HEADER,))},
        READ,
        query=AnnotatorQuery,
    )
)
def show(project_id: str, document_id: str) -> Response:
    annotator = validate_query(AnnotatorQuery).annotator or caller().owner
    project, number = _find(project_id, document_id)
    events = project.events(number)
    found = project.list_of(number, annotator, events)
    document = {k: v for k, v in project.documents[number].as_json().items() if k in ("title", "sents", "vertexSet")}
    entries = [
        {"h": t.head, "t": t.tail, "r": t.relation, "recommended": e.recommended, "decision": e.decision,
         "evidence": list(e.evidence), "score": e.score, "p": e.p}
        for t, e in found.entries.items()
    ]  # fmt: skip
    view = {
        "id": number, "version": len(events), "annotator": annotator, "is_blind": number in project.blind,
        "is_complete": found.is_complete, "assigned": list(project.assigned(number)), "document": document,
        "entries": entries, "without_relation": without_relation(found.final, len(document["vertexSet"])),
        "hints": [{"h": t.head, "t": t.tail, "r": t.relation, "because": why}
                  for t, why in hints(found.final, set(found.entries), project.terms.inverses)],
        "counters": counters_of([found]),
    }  # fmt: skip
    return answer_json(view, headers={VERSION_HEADER: str(len(events))})


@routes.add(
    Operation(
        "GET",
        "/v1/projects/{project_id}/documents/{document_id}/events",
        "documents",
        "A document's log",
        {200: Answer(EventLogView)},
        READ,
    )
)
def log(project_id: str, document_id: str) -> Response:
    project, number = _find(project_id, document_id)
    events = [{**event, "version": n} for n, event in enumerate(project.events(number), start=1)]
    return answer_json({"events": events})


@routes.add(
    Operation(
        "POST",
        "/v1/projects/{project_id}/documents/{document_id}/events",
        "documents",
        "Record an action; 409 with the current version where the document has moved on",
        {201: Answer(Recorded, "Durable", headers=(VERSION_HEADER,))},
        WRITE,
        (400, 409, 413, 415),
        body=NewEvent,
    )
)
def record(project_id: str, document_id: str) -> Response:
    asked = read_model(NewEvent)
    project, number = _find(project_id, document_id)
    event = asked.model_dump(exclude={"version"}, exclude_none=True)
    event |= {"annotator": asked.annotator or caller().owner, "at": datetime.now(UTC).isoformat()}
    _check_fields(project, number, asked)
    version = _append(project, number, event, asked.version)
    counters = counters_of([project.list_of(number, event["annotator"])])
    return answer_json({"version": version, "counters": counters}, 201, {VERSION_HEADER: str(version)})


def _append(project: Project, number: int, event: Event, version: int) -> int:
    """Raises Problem 409 with the current version, BadRequest where the action doesn't fit."""
    events = project.events(number)
    sent_again = event.get("event_id") and any(each.get("event_id") == event["event_id"] for each in events)
    try:
        if version != len(events) and not sent_again:
            raise Stale(len(events))
        if not sent_again:
            check(project.list_of(number, event["annotator"], events), events, event)
        return project.append(number, event, version)
    except Stale as stale:
        raise Problem(
            "conflict",
            f"the document is at version {stale.version}, not {version}: load it again and repeat the action",
            [FieldError(("body", "version"), f"current version: {stale.version}", "stale_version")],
            {VERSION_HEADER: str(stale.version)},
        ) from None
    except CantDo as error:
        raise BadRequest(str(error), [FieldError(("body", error.at), str(error), "not_applicable")]) from None


def _find(project_id: str, document_id: str) -> tuple[Project, int]:
    project = projects().find(project_id)
    if int(document_id) >= len(project.documents):
        raise NotFound(f"project {project_id} has {len(project.documents)} documents, from 0")
    return project, int(document_id)


def _check_fields(project: Project, number: int, asked: NewEvent) -> None:
    """Entities, relations and sentences exist. Raises BadRequest."""
    document = project.documents[number]
    errors = [
        FieldError(("body", name), f"{value} is outside the document's {len(document.entities)} entities", "range")
        for name, value in (("h", asked.h), ("t", asked.t))
        if value is not None and value >= len(document.entities)
    ]
    known = project.terms.relations
    offered = {asked.r if asked.action == "add" else None, asked.new_r} - {None}
    errors += [
        FieldError(("body", "r"), f"{r!r} is not in the project's relations", "unknown")
        for r in offered
        if known and r not in known
    ]
    errors += [
        FieldError(("body", "evidence"), f"{n} is outside the document's {len(document.sentences)} sentences", "range")
        for n in asked.evidence or ()
        if n >= len(document.sentences)
    ]
    if errors:
        raise BadRequest("the event does not fit the document", errors)


def _item(project: Project, number: int, events: list[Event]) -> dict[str, Any]:
    lists = {name: project.list_of(number, name, events) for name in project.active(number, events)}
    return {"id": number, "title": project.documents[number].title, "version": len(events),
            "is_blind": number in project.blind, "assigned": list(project.assigned(number)), "active": list(lists),
            "complete": [name for name, own in lists.items() if own.is_complete],
            "counters": counters_of(list(lists.values()))}  # fmt: skip
