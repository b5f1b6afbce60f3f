"""OpenAPI 3.1 from the operations and the pydantic models that validate.

The document is made once per process. The submit body is a `oneOf` over the kinds with the discriminator `kind`.
"""

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from flask import Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.auth import trusts_loopback
from services.gateway.operations import PATH_PARAMETERS, Answer, Operation, Routes
from services.gateway.problems import PROBLEMS, ProblemView
from services.gateway.redteam import offered
from services.gateway.state import gateway
from services.gateway.submissions import submit_model
from services.gateway.views import Document, DryRunView, JobView

routes = Routes()
REFS = "#/components/schemas/{model}"
REQUEST_ID = {"required": True, "schema": {"type": "string"}}
EVENT = {
    "type": "object",
    "description": "One server-sent event; `data` is a JSON object with the event's fields and its `attempt`.",
    "properties": {
        "id": {"type": "string", "pattern": r"^\d{1,16}-\d{1,16}$"},
        "event": {"enum": ["state", "progress", "metric", "log", "token", "gap"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
    "required": ["id", "event", "data"],
    "additionalProperties": False,
}
TEXTS = {"text/event-stream": EVENT, "text/html": {"type": "string"}, "text/plain": {"type": "string"}}
LINKS = {
    ("POST", "/v1/jobs"): (
        ("job", "GET", "/v1/jobs/{job_id}", "job_id"),
        ("cancel", "POST", "/v1/jobs/{job_id}/cancel", "job_id"),
        ("artifacts", "GET", "/v1/jobs/{job_id}/artifacts", "job_id"),
        ("log", "GET", "/v1/jobs/{job_id}/log", "job_id"),
        ("events", "GET", "/v1/jobs/{job_id}/events", "job_id"),
        ("retry", "POST", "/v1/jobs/{job_id}/retry", "job_id"),
        ("delete", "DELETE", "/v1/jobs/{job_id}", "job_id"),
    ),
    ("POST", "/v1/sweeps"): (
        ("sweep", "GET", "/v1/sweeps/{sweep_id}", "sweep_id"),
        ("cancel", "POST", "/v1/sweeps/{sweep_id}/cancel", "sweep_id"),
    ),
}
HEADERS = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]{1,255}$"},
    "Last-Event-ID": {"type": "string", "pattern": r"^\d{1,16}-\d{1,16}$"},
    "Range": {"type": "string"},
    "If-None-Match": {"type": "string"},
    "If-Range": {"type": "string"},
}


@routes.add(Operation("GET", "/openapi.json", "documents", "This document", {200: Answer(Document)}))
def openapi_json() -> Response:
    needs_token = not trusts_loopback(gateway().settings)
    return Response(_text(needs_token, tuple(offered())), mimetype="application/json")


@cache
def _text(needs_token: bool, kinds: tuple[str, ...]) -> str:
    """Of one set of kinds: what a deployment doesn't offer isn't documented there."""
    return json.dumps(document(gateway().operations, needs_token=needs_token), ensure_ascii=False)


def document(operations: Sequence[Operation], *, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document."""
    schemas, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tenfold",
            "version": "1",
            "description": "Ten language-model methods as jobs on one cluster.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}] if needs_token else [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """References by (model, mode), and the definitions they point to."""
    takes_jobs = any(operation.body == "submit" for operation in operations)
    bodies: list[type[BaseModel]] = [submit_model(kind) for kind in offered()] if takes_jobs else []
    answers: list[type[BaseModel]] = [ProblemView, DryRunView]
    for operation in operations:
        if isinstance(operation.body, type):
            bodies.append(operation.body)
        answers += [answer.model for answer in operation.answers.values() if answer.model]
    wanted: list[Any] = [(model, "validation") for model in dict.fromkeys(bodies)]
    wanted += [(model, "serialization") for model in dict.fromkeys(answers)]
    by_model, rest = models_json_schema(wanted, ref_template=REFS)
    return by_model, rest.get("$defs", {})


def _operation(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _id_of(operation.method, operation.path),
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation, schemas),
    }
    if operation.scopes:
        described["description"] = f"Needs the scope {', '.join(operation.scopes)}."
    if operation.is_open:
        described["security"] = []
    if operation.body is not None:
        described["requestBody"] = _request_body(operation, schemas)
    return described


def _id_of(method: str, path: str) -> str:
    return f"{method.lower()}{re.sub('[^a-z0-9]+', '_', path)}".rstrip("_")


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": PATH_PARAMETERS[name]} for name in names
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(ref_template=REFS)
        required = schema.get("required", [])
        for name, about in schema.get("properties", {}).items():
            found.append({"name": name, "in": "query", "required": name in required, "schema": _inlined(about, schema)})
    found += [{"name": name, "in": "header", "required": False, "schema": HEADERS[name]} for name in operation.headers]
    return found


def _inlined(about: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter's schema without references and without `null`: a query string has none."""
    options = about.get("anyOf")
    if options is not None:
        about = {
            **{k: v for k, v in about.items() if k != "anyOf"},
            **next(o for o in options if o.get("type") != "null"),
        }
    if "$ref" in about:
        name = about["$ref"].rsplit("/", 1)[1]
        about = {**{k: v for k, v in about.items() if k != "$ref"}, **schema["$defs"][name]}
    return {key: value for key, value in about.items() if not (key == "default" and value is None)}


def _request_body(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if operation.body == "upload":
        multipart = {
            "type": "object",
            "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
            "required": ["file"],
        }
        return {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": multipart},
                "application/octet-stream": {
                    "schema": {"type": "string", "contentMediaType": "application/octet-stream"}
                },
            },
        }
    if operation.body == "submit":
        refs = {kind: schemas[submit_model(kind), "validation"]["$ref"] for kind in offered()}
        schema: dict[str, Any] = {
            "oneOf": [{"$ref": ref} for ref in refs.values()],
            "discriminator": {"propertyName": "kind", "mapping": refs},
        }
    else:
        schema = schemas[operation.body, "validation"]
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _responses(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        described[str(status)] = {
            "description": answer.description,
            "headers": _headers(answer),
            **_content(operation, status, answer, schemas),
            **_links(operation, status),
        }
    problem = schemas[ProblemView, "serialization"]
    for status in sorted(_problem_statuses(operation)):
        titles = [kind.title for kind in PROBLEMS.values() if kind.status == status]
        described[str(status)] = {
            "description": ", or: ".join(titles),
            "headers": {"X-Request-Id": REQUEST_ID},
            "content": {"application/problem+json": {"schema": problem}},
        }
    return described


def _problem_statuses(operation: Operation) -> set[int]:
    """Its own, and those that any route of its form may answer."""
    if operation.is_open:
        return {*operation.problems, 403, 500}
    with_path = {404} if "{" in operation.path else set()
    return {*operation.problems, 401, 403, 422, 500, 503, *with_path}


def _headers(answer: Answer) -> dict[str, Any]:
    named = {name: {"required": True, "schema": {"type": "string"}} for name in answer.headers}
    return {"X-Request-Id": REQUEST_ID, **named}


def _links(operation: Operation, status: int) -> dict[str, Any]:
    """From a submission to what can be done with it."""
    targets = LINKS.get((operation.method, operation.path), ()) if status == 202 else ()
    if not targets:
        return {}
    return {
        "links": {
            name: {"operationId": _id_of(method, path), "parameters": {parameter: "$response.body#/id"}}
            for name, method, path, parameter in targets
        }
    }


def _content(operation: Operation, status: int, answer: Answer, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if not answer.media_types:
        return {}
    schema: dict[str, Any] = schemas[answer.model, "serialization"] if answer.model else {}
    if operation.body == "submit" and status == 200:
        schema = {"anyOf": [schemas[JobView, "serialization"], schemas[DryRunView, "serialization"]]}
    content = {}
    for media_type in answer.media_types:
        text = TEXTS.get(media_type)
        content[media_type] = {"schema": schema if text is None else text}
    return {"content": content}
