"""`/v1/projects`: make, list, look, adjudicate, export."""

import json
import secrets
import time
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, Literal, cast

from flask import Response, current_app
from pydantic import BaseModel, ConfigDict

from services.annotation.decisions import ADJUDICATOR, AnnotatorList
from services.annotation.projects import Project, Projects, Terms
from services.annotation.sources import read_project_documents, read_recommendations
from services.annotation.views import (
    AdjudicationView,
    Counters,
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
from shared.relations.effort import agreement
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
        relations=asked.relations, seed=asked.seed,
        sources={"documents": asked.documents, "recommendations": asked.recommendations},
    )  # fmt: skip
    return answer_json(project_view(projects().create(terms, documents, recommended)), 201)


@routes.add(
    Operation("GET", "/v1/projects", "projects", "Every project, newest first", {200: Answer(ProjectList)}, READ)
)
def list_projects() -> Response:
    return answer_json({"items": [_item(projects().find(project_id)) for project_id in projects().ids()]})


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
    items = [item for n in range(len(project.documents)) if (item := _adjudication_item(project, n)) is not None]
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
    documents = [_annotated(project, n, asked.annotator) for n in range(len(project.documents))]
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


def _annotated(project: Project, number: int, annotator: str | None) -> Document:
    source = project.documents[number]
    found = project.settled(number) if annotator is None else project.list_of(number, annotator)
    return Document(source.title, source.sentences, source.entities, found.labels(), source.extra)


# What is counted ------------------------------------------------------------------------------------------------------


def counters_of(lists: list[AnnotatorList]) -> dict[str, Any]:
    """Over lists."""
    decisions = [entry.decision for each in lists for entry in each.entries.values()]
    steps = [each.steps for each in lists]
    return Counters(
        accepted=decisions.count("accepted"), rejected=decisions.count("rejected"), added=decisions.count("added"),
        undecided=decisions.count("undecided"), steps=sum(each.steps for each in steps),
        scratch=sum(each.scratch for each in steps), actions=sum(each.actions for each in lists),
        seconds=round(sum(each.seconds for each in lists), 3),
    ).model_dump()  # fmt: skip


def _item(project: Project) -> dict[str, Any]:
    terms = project.terms
    return {"id": terms.id, "name": terms.name, "owner": terms.owner, "created_at": terms.created_at,
            "documents": len(project.documents)}  # fmt: skip


def project_view(project: Project) -> dict[str, Any]:
    terms = project.terms
    by_document = [
        {name: project.list_of(n, name, events) for name in project.active(n, events)}
        for n, events in ((n, project.events(n)) for n in range(len(project.documents)))
    ]
    people = list(dict.fromkeys([*terms.annotators, *(name for lists in by_document for name in lists)]))
    own = {name: [lists[name] for lists in by_document if name in lists] for name in people}
    return {
        **_item(project), "annotators": list(terms.annotators), "blind_share": terms.blind_share,
        "double_share": terms.double_share, "relations": terms.relations, "sources": terms.sources,
        "complete": sum(_is_complete(project, n, lists) for n, lists in enumerate(by_document)),
        "counters": counters_of([each for lists in own.values() for each in lists]),
        "by_annotator": {name: counters_of(lists) for name, lists in own.items()},
        "agreement": _agreement(project, by_document), "anchoring": _anchoring(project, by_document),
    }  # fmt: skip


def _is_complete(project: Project, number: int, lists: dict[str, AnnotatorList]) -> bool:
    wanted = project.assigned(number) or tuple(lists)
    return bool(wanted) and all(name in lists and lists[name].is_complete for name in wanted)


def _agreement(project: Project, by_document: list[dict[str, AnnotatorList]]) -> dict[str, Any]:
    relations = len(project.terms.relations) or len(
        {t.relation for ls in by_document for x in ls.values() for t in x.final}
    )
    values, documents = [], 0
    for document, lists in zip(project.documents, by_document, strict=True):
        done = [each for each in lists.values() if each.is_complete]
        documents += len(done) > 1
        n = len(document.entities)
        values += [agreement(a.final, b.final, n * (n - 1), relations) for a, b in combinations(done, 2)]
    return {
        "documents": documents,
        "f1": _mean([each.f1 for each in values if each.f1 is not None]),
        "kappa": _mean([each.kappa for each in values if each.kappa is not None]),
    }


def _anchoring(project: Project, by_document: list[dict[str, AnnotatorList]]) -> dict[str, Any]:
    sizes: dict[bool, list[float]] = {True: [], False: []}
    for number, lists in enumerate(by_document):
        sizes[number in project.blind] += [len(each.final) for each in lists.values() if each.is_complete]
    return {
        "documents_blind": len(sizes[True]), "documents_recommended": len(sizes[False]),
        "labels_blind": _mean(sizes[True]), "labels_recommended": _mean(sizes[False]),
    }  # fmt: skip


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _adjudication_item(project: Project, number: int) -> dict[str, Any] | None:
    events = project.events(number)
    people = project.active(number, events)
    if len(people) < 2:
        return None
    finals = {name: project.list_of(number, name, events).final for name in people}
    agreed, every = set.intersection(*finals.values()), set.union(*finals.values())
    settled = project.list_of(number, ADJUDICATOR, events)
    disputed = [
        {"h": t.head, "t": t.tail, "r": t.relation, "has": [name for name in people if t in finals[name]],
         "has_not": [name for name in people if t not in finals[name]]}
        for t in sorted(every - agreed)
    ]  # fmt: skip
    return {"id": number, "title": project.documents[number].title, "version": len(events), "annotators": people,
            "agreed": len(agreed), "disputed": disputed, "is_settled": settled.is_complete}  # fmt: skip
