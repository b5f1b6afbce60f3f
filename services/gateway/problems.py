"""Every error as RFC 9457 `application/problem+json`: one table from what went wrong to type, title and status.

The `type` is a path that documents the error (`/problems/<name>`). A 500 carries the request id and nothing else.
"""

import errno
import json
from typing import Any, NamedTuple

import redis
import structlog
from flask import Flask, Response, g, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException

from shared.jobs.errors import (
    BadRequest,
    Conflict,
    FieldError,
    NotFound,
    QuotaExceeded,
    StorageFull,
    TenfoldError,
)

log = structlog.get_logger()


class Kind(NamedTuple):
    """A kind of problem, as documented at its `type`."""

    status: int
    title: str
    explanation: str


PROBLEMS = {
    "malformed": Kind(400, "Malformed request", "The body is not JSON, or the request can't be parsed at all."),
    "unauthorized": Kind(401, "A token is required", "Send `Authorization: Bearer <token>` with a valid token."),
    "forbidden": Kind(
        403, "Not allowed", "The token lacks a scope, the job is another owner's, or the origin is foreign."
    ),
    "not_found": Kind(404, "Not found", "There is no such route, job, kind, artifact, file, sweep or token."),
    "method_not_allowed": Kind(405, "Method not allowed", "The `Allow` header lists what this path takes."),
    "not_acceptable": Kind(406, "Not acceptable", "This route can't answer in the form asked for."),
    "conflict": Kind(409, "Conflict", "The job's state doesn't allow this."),
    "too_large": Kind(413, "Too large", "The body is larger than this gateway takes."),
    "too_long": Kind(414, "Too long", "The request line or its headers are longer than this gateway reads."),
    "unsupported_media_type": Kind(415, "Unsupported media type", "JSON calls need `Content-Type: application/json`."),
    "range_not_satisfiable": Kind(416, "Range not satisfiable", "The range lies outside the artifact."),
    "invalid": Kind(422, "Invalid input", "The request is understood; `errors` names each field that is wrong."),
    "quota": Kind(429, "Too many", "Too many unfinished jobs or open streams of this caller; try again later."),
    "internal": Kind(500, "Internal error", "A defect of Tenfold. Report it with the request id."),
    "not_implemented": Kind(501, "Not implemented", "The gateway does not know this transfer coding."),
    "unavailable": Kind(503, "Unavailable", "Redis or the artifact store does not answer."),
    "storage_full": Kind(
        503, "Storage full", "The job store is nearly full; it takes no new work until there is room."
    ),
}


class FieldProblem(BaseModel):
    """One refused field."""

    model_config = ConfigDict(extra="forbid")

    loc: list[str | int] = Field(description="The path of the field in the request.")
    msg: str = Field(description="What is wrong with it, and what would be accepted.")
    type: str = Field(description="A stable word for the kind of error.")


class ProblemView(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="forbid", title="Problem")

    type: str = Field(description="A stable path that documents the error.")
    title: str
    status: int
    detail: str | None = None
    instance: str | None = Field(None, description="The request id.")
    errors: list[FieldProblem] | None = Field(None, description="Each bad field.")


class Problem(Exception):
    """An answer that is a problem."""

    def __init__(
        self, name: str, detail: str, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.name, self.detail, self.errors, self.headers = name, detail, errors or [], headers or {}

    def response(self) -> Response:
        kind = PROBLEMS[self.name]
        body: dict[str, Any] = {"type": f"/problems/{self.name}", "title": kind.title, "status": kind.status}
        if self.name != "internal":
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = self.errors
        body["instance"] = g.get("request_id")
        answer = Response(json.dumps(body, ensure_ascii=True), kind.status, mimetype="application/problem+json")
        answer.headers.update(self.headers)
        return answer


_BY_CLASS: list[tuple[type[TenfoldError], str]] = [
    (BadRequest, "invalid"),
    (NotFound, "not_found"),
    (Conflict, "conflict"),
    (QuotaExceeded, "quota"),
    (StorageFull, "storage_full"),
]
_BY_STATUS = {kind.status: name for name, kind in reversed(PROBLEMS.items())}


def problem_of(error: Exception) -> Problem:
    """The problem that tells of an error."""
    if isinstance(error, Problem):
        return error
    for known, name in _BY_CLASS:
        if isinstance(error, known):
            headers = {"Retry-After": "10"} if name in ("quota", "storage_full") else None
            return Problem(name, error.message, getattr(error, "errors", None), headers)
    if isinstance(error, HTTPException):
        return _problem_of_http(error)
    if isinstance(error, redis.RedisError) and (problem := _problem_of_redis(error)):
        return problem
    log.exception("internal error", request_id=g.get("request_id"), path=request.path)
    if isinstance(error, OSError):
        return _problem_of_disk(error)
    return Problem("internal", "")


def _problem_of_redis(error: redis.RedisError) -> Problem | None:
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.ReadOnlyError):
        return Problem("unavailable", "Redis does not answer", headers={"Retry-After": "2"})
    if "used memory > 'maxmemory'" in str(error):  # said of a command and from within a script alike
        return Problem("storage_full", "the job store is full", headers={"Retry-After": "10"})
    if "MISCONF" in str(error):
        return Problem("unavailable", "Redis can't write to its disk", headers={"Retry-After": "10"})
    return None


def _problem_of_disk(error: OSError) -> Problem:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem("storage_full", "the artifact store is full", headers={"Retry-After": "10"})
    return Problem("unavailable", "the artifact store does not answer", headers={"Retry-After": "2"})


def _problem_of_http(error: HTTPException) -> Problem:
    """What Flask itself refuses, in our own words."""
    status = error.code or 500
    name = _BY_STATUS.get(status, "malformed" if status < 500 else "internal")
    headers = {key: value for key, value in error.get_headers() if key in ("Allow", "Content-Range", "Retry-After")}
    if name == "not_found":
        return Problem(name, f"there is nothing at {request.path[:200]}; /docs lists every call")
    if name == "method_not_allowed":
        return Problem(name, f"{request.path} takes {headers.get('Allow')}, not {request.method[:20]}", headers=headers)
    return Problem(name, PROBLEMS[name].explanation, headers=headers)


def field_errors(error: ValidationError, at: tuple[str | int, ...] = (), body: Any = None) -> list[FieldError]:
    """Pydantic's errors as the contract lists them; the input itself is not repeated.

    With the `body`, places lead through what was sent: pydantic also names the branch of a union it tried.
    """
    return [
        FieldError((*at, *(item["loc"] if body is None else _place(item["loc"], body))), item["msg"], item["type"])
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _place(loc: tuple[str | int, ...], body: Any) -> list[str | int]:
    """The parts of a place that exist in the body, and a last one that is missing there."""
    place: list[str | int] = []
    for number, part in enumerate(loc):
        if _has(body, part):
            body = body[part]
        elif not (number == len(loc) - 1 and isinstance(body, dict)):
            continue
        place.append(part)
    return place


def _has(body: Any, part: str | int) -> bool:
    if isinstance(body, list):
        return isinstance(part, int) and part < len(body)
    return isinstance(body, dict) and part in body


def install(app: Flask) -> None:
    """Every exception of a request becomes a problem."""
    app.register_error_handler(Exception, lambda error: problem_of(error).response())
