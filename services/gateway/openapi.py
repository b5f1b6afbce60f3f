"""OpenAPI 3.1 from the operations and the pydantic models that validate; and pages for people.

The document is made once per process. The submit body is a `oneOf` over the kinds with the discriminator `kind`.
"""

import html
import re
from functools import cache
from typing import Any

from flask import Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.operations import PATH_PARAMETERS, Answer, Operation, Routes, answer_json
from services.gateway.problems import PROBLEMS, ProblemView
from services.gateway.submissions import submit_model
from services.gateway.views import DryRunView, JobView
from shared.jobs.catalog import catalog
from shared.jobs.errors import NotFound
from shared.jobs.spec import JobSpec

routes = Routes()
REFS = "#/components/schemas/{model}"
HTML = ("text/html",)
EVERYWHERE = (401, 403, 500, 503)  # problems that any guarded route may answer
HEADERS = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]{1,255}$"},
    "Last-Event-ID": {"type": "string", "pattern": r"^\d{1,16}-\d{1,16}$"},
    "Range": {"type": "string"},
    "If-None-Match": {"type": "string"},
}


@routes.add(Operation("GET", "/openapi.json", "documents", "This document", {200: Answer()}))
def openapi_json() -> Response:
    return answer_json(document())


@routes.add(Operation("GET", "/docs", "documents", "The same for people", {200: Answer(None, "A page", HTML)}))
def docs() -> Response:
    return Response(_page("Tenfold HTTP API", _operations_html()), mimetype="text/html")


@routes.add(
    Operation(
        "GET",
        "/problems/{problem}",
        "documents",
        "What a problem means",
        {200: Answer(None, "A page", HTML)},
        (),
        (404,),
    )
)
def problem_page(problem: str) -> Response:
    if problem not in PROBLEMS:
        raise NotFound(f"there is no problem {problem}; known: {', '.join(PROBLEMS)}")
    kind = PROBLEMS[problem]
    return Response(
        _page(f"{kind.status} {kind.title}", f"<p>{html.escape(kind.explanation)}</p>"), mimetype="text/html"
    )


def all_operations() -> list[Operation]:
    """Every operation of the contract, in the order of the document."""
    from services.gateway.app import RESOURCES

    return [operation for resource in RESOURCES for operation, _ in resource.operations]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    schemas, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in all_operations():
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tenfold",
            "version": "1",
            "description": "Ten language-model methods as jobs on one cluster.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas() -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """References by (model, mode), and the definitions they point to."""
    bodies: list[type[BaseModel]] = [submit_model(kind) for kind in catalog()]
    answers: list[type[BaseModel]] = [ProblemView, DryRunView]
    for operation in all_operations():
        if isinstance(operation.body, type):
            bodies.append(operation.body)
        answers += [answer.model for answer in operation.answers.values() if answer.model]
    wanted: list[Any] = [(model, "validation") for model in dict.fromkeys(bodies)]
    wanted += [(model, "serialization") for model in dict.fromkeys(answers)]
    by_model, rest = models_json_schema(wanted, ref_template=REFS)
    return by_model, rest.get("$defs", {})


def _operation(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{re.sub('[^a-z0-9]+', '_', operation.path)}",
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
        refs = {kind: schemas[submit_model(kind), "validation"]["$ref"] for kind in catalog()}
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
        described[str(status)] = {"description": answer.description} | _content(operation, status, answer, schemas)
    everywhere = (403, 500) if operation.is_open else EVERYWHERE
    problem = schemas[ProblemView, "serialization"]
    for status in sorted({*operation.problems, *everywhere}):
        title = next(kind.title for kind in PROBLEMS.values() if kind.status == status)
        described[str(status)] = {
            "description": title,
            "content": {"application/problem+json": {"schema": problem}},
        }
    return described


def _content(operation: Operation, status: int, answer: Answer, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if not answer.media_types:
        return {}
    schema: dict[str, Any] = schemas[answer.model, "serialization"] if answer.model else {}
    if operation.body == "submit" and status == 200:
        schema = {"anyOf": [schemas[JobView, "serialization"], schemas[DryRunView, "serialization"]]}
    content = {}
    for media_type in answer.media_types:
        is_text = media_type in ("text/event-stream", "text/html", "text/plain")
        content[media_type] = {"schema": {"type": "string"} if is_text else schema}
    return {"content": content}


# Pages for people -------------------------------------------------------------------------------------------------


def _operations_html() -> str:
    rows = []
    for operation in all_operations():
        scopes = ", ".join(operation.scopes) or ("no token" if operation.is_open else "any token")
        cells = (
            f"<code>{operation.method} {html.escape(operation.path)}</code>",
            html.escape(operation.summary),
            scopes,
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    kinds = "".join(_kind_html(spec) for spec in catalog().values())
    table = f"<table><tr><th>call</th><th>answer</th><th>scope</th></tr>{''.join(rows)}</table>"
    return f"<p>Machine-readable: <a href='/openapi.json'>/openapi.json</a>.</p>{table}<h2>Kinds</h2>{kinds}"


def _kind_html(spec: JobSpec) -> str:
    heading = f"<h3 id='{spec.kind}'><code>{spec.kind}</code></h3>"
    return f"{heading}<p>{html.escape(spec.summary)}</p>{_fields_html(spec.params_schema())}"


def _fields_html(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = []
    for name, about in schema.get("properties", {}).items():
        default = "required" if name in required else html.escape(repr(about.get("default")))
        rows.append(
            f"<tr><td><code>{name}</code></td><td>{html.escape(str(about.get('type', '')))}</td><td>{default}</td>"
            f"<td>{html.escape(about.get('description', ''))}</td></tr>"
        )
    return f"<table><tr><th>param</th><th>type</th><th>default</th><th>meaning</th></tr>{''.join(rows)}</table>"


def _page(title: str, body: str) -> str:
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
        "table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #d0d7de;padding:.3rem .8rem;"
        "text-align:left;vertical-align:top}code{font-size:.9em}"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{style}</style><h1>{html.escape(title)}</h1>{body}</html>"
    )
