"""`/v1/projects`: make, list, look, adjudicate, export."""

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Literal, cast

from flask import Response, current_app
from pydantic import BaseModel, ConfigDict

from services.annotation.counting import adjudication_item, item_view, project_view
from services.annotation.log import Event
from services.annotation.projects import Project, Projects, Terms
from services.annotation.sources import read_project_documents, read_recommendations
from services.annotation.views import (
    AdjudicationView,
    Name,
    NewProject,
    ProjectList,
    ProjectView,
)
from services.gateway.auth import caller
from services.gateway.bodies import read_model, validate_query
from services.gateway.operations import Answer, Operation, Routes, answer_json
from shared.jobs.tokens import Scope
from shared.relations.documents import Document, dump_documents
from shared.relations.formats import csv_of, doccano_of, predictions_of

routes = Routes()
READ, WRITE = (Scope.JOBS_READ,), (Scope.JOBS_WRITE,)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MEDIA_TYPES = {
    "docred": "application/json",
    "doccano": "application/jsonl",
    "predictions": "application/json",
    "csv": "text/csv",
}


def projects() -> Projects:
    return cast(Projects, current_app.extensions["annotation"])


class ExportQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    format: Literal["docred", "doccano", "predictions", "csv"] = "docred"
    """DocRED JSON, doccano JSONL, the official prediction list, or CSV of triples."""
    annotator: Name | None = None
    """One annotator's lists; left out: the settled ones."""


@routes.add(
    Operation(
        "POST",
        "/v1/projects",
        "projects",
        "Make a project",
        {201: Answer(ProjectView, "Made")},
        WRITE,
        (400, 413, 415),
        body=NewProject,
    )
)
def create() -> Response:
    asked = read_model(NewProject)
    documents = read_project_documents(asked.documents)
    recommended = read_recommendations(asked.recommendations, documents)
    terms = Terms(
        id=new_id(), name=asked.name, owner=caller().owner, created_at=datetime.now(UTC).isoformat(),
        annotators=tuple(asked.annotators), blind_share=asked.blind_share, double_share=asked.double_share,
        relations=asked.relations, seed=asked.seed, inverses=asked.inverses,
        sources={"documents": asked.documents, "recommendations": asked.recommendations},
    )  # fmt: skip
    return answer_json(project_view(projects().create(terms, documents, recommended)), 201)


@routes.add(
    Operation("GET", "/v1/projects", "projects", "Every project, newest first", {200: Answer(ProjectList)}, READ)
)
def list_projects() -> Response:
    return answer_json({"items": [item_view(projects().find(project_id)) for project_id in projects().ids()]})


@routes.add(
    Operation(
        "GET", "/v1/projects/{project_id}", "projects", "Where a project stands", {200: Answer(ProjectView)}, READ
    )
)
def show(project_id: str) -> Response:
    return answer_json(project_view(projects().find(project_id)))


@routes.add(
    Operation(
        "GET",
        "/v1/projects/{project_id}/adjudication",
        "projects",
        "Documents of several annotators, with what they disagree on",
        {200: Answer(AdjudicationView)},
        READ,
    )
)
def adjudication(project_id: str) -> Response:
    project = projects().find(project_id)
    logs = project.all_events()
    items = [item for n, events in enumerate(logs) if (item := adjudication_item(project, n, events)) is not None]
    return answer_json({"items": items})


@routes.add(
    Operation(
        "GET",
        "/v1/projects/{project_id}/export",
        "projects",
        "The annotated documents",
        {200: Answer(None, "The documents", tuple(dict.fromkeys(MEDIA_TYPES.values())))},
        READ,
        query=ExportQuery,
    )
)
def export(project_id: str) -> Response:
    asked = validate_query(ExportQuery)
    project = projects().find(project_id)
    documents = [_annotated(project, n, events, asked.annotator) for n, events in enumerate(project.all_events())]
    text: bytes | str
    match asked.format:
        case "docred":
            text = dump_documents(documents)
        case "doccano":
            text = doccano_of(documents)
        case "predictions":
            text = json.dumps(predictions_of(documents), ensure_ascii=False)
        case "csv":
            text = csv_of(documents, project.terms.relations)
    return Response(text, content_type=MEDIA_TYPES[asked.format])


def new_id() -> str:
    """A ULID: 48 bits of milliseconds, 80 of chance."""
    value = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def _annotated(project: Project, number: int, events: list[Event], annotator: str | None) -> Document:
    source = project.documents[number]
    found = project.settled(number, events) if annotator is None else project.list_of(number, annotator, events)
    return Document(source.title, source.sentences, source.entities, found.labels(), source.extra)
