"""How a route is declared: one `Operation` beside each view, from which Flask's URL map and OpenAPI both come."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response
from pydantic import BaseModel
from werkzeug.datastructures import Headers

from services.gateway.auth import require
from services.gateway.bodies import refuse_query
from services.gateway.problems import Problem
from services.gateway.views import as_json
from shared.jobs.tokens import Scope

ULID = r"^[0-9A-HJKMNP-TV-Z]{26}$"
KIND = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"
OWNER = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"
PATH_PARAMETERS = {
    "job_id": {"type": "string", "pattern": ULID},
    "sweep_id": {"type": "string", "pattern": ULID},
    "kind": {"type": "string", "pattern": KIND},
    "artifact": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}$"},
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "token_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "name": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
    "problem": {"type": "string", "pattern": "^[a-z_]+$"},
    "project_id": {"type": "string", "pattern": ULID},
    "document_id": {"type": "string", "pattern": "^(0|[1-9][0-9]{0,6})$"},
}
"""What a path variable looks like; anything else is 404."""


@dataclass(frozen=True)
class Answer:
    """A successful answer: its model as JSON, or raw content of a media type."""

    model: type[BaseModel] | None = None
    description: str = "OK"
    media_types: tuple[str, ...] = ("application/json",)
    headers: tuple[str, ...] = ()  # besides X-Request-Id


@dataclass(frozen=True)
class Operation:
    """One route of the contract."""

    method: str
    path: str  # "/v1/jobs/{job_id}"
    tag: str
    summary: str
    answers: dict[int, Answer]
    scopes: tuple[Scope, ...] = ()
    problems: tuple[int, ...] = ()  # besides those every route may answer
    query: type[BaseModel] | None = None
    body: type[BaseModel] | str | None = None  # "submit": the oneOf over the kinds; "upload": any bytes
    headers: tuple[str, ...] = ()
    is_open: bool = False  # needs no token


@dataclass
class Routes:
    """The operations of one resource and their view functions."""

    operations: list[tuple[Operation, Callable[..., Response]]] = field(default_factory=list)

    def add(self, operation: Operation) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        """Decorator: this function answers that operation."""

        def register(view: Callable[..., Response]) -> Callable[..., Response]:
            self.operations.append((operation, view))
            return view

        return register

    def install(self, app: Flask) -> None:
        for operation, view in self.operations:
            rule = operation.path.replace("{", "<").replace("}", ">")
            guarded = _guarded(operation, view)
            name = f"{operation.method} {operation.path}"
            app.add_url_rule(rule, name, guarded, methods=[operation.method], provide_automatic_options=False)


class JsonAnswer(Response):
    """JSON text with headers that are final: nothing in them needs werkzeug's second look."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        return self.headers


def answer_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return answer_text(as_json(value), status, headers)


def answer_text(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer that is JSON text already."""
    return JsonAnswer(text.encode(), status, headers, content_type="application/json")


def answer_nothing() -> Response:
    """204: done, and nothing to say; no Content-Type, since there is no content."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def _guarded(operation: Operation, view: Callable[..., Response]) -> Callable[..., Response]:
    """Check scopes, path variables and stray query parameters before the view runs."""
    shapes = {name: re.compile(schema["pattern"].replace("$", r"\Z")) for name, schema in PATH_PARAMETERS.items()}

    def guarded(**variables: str) -> Response:
        if operation.scopes:
            require(*operation.scopes)
        for name, value in variables.items():
            if not shapes[name].match(value):
                raise Problem("not_found", f"{value[:100]!r} is no {name.replace('_', ' ')}")
        if operation.query is None and not operation.is_open:
            refuse_query()
        return view(**variables)

    return guarded
