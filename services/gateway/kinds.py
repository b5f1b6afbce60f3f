"""`/v1/kinds`: what can be submitted."""

from functools import cache
from typing import Any

from flask import Response

from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.redteam import offered
from services.gateway.views import KindList, KindView
from shared.jobs.catalog import find
from shared.jobs.errors import NotFound
from shared.jobs.tokens import Scope

routes = Routes()


@routes.add(Operation("GET", "/v1/kinds", "kinds", "Every kind", {200: Answer(KindList)}, scopes=(Scope.JOBS_READ,)))
def list_kinds() -> Response:
    return answer_json({"items": [_view(kind) for kind in offered()]})


@routes.add(
    Operation("GET", "/v1/kinds/{kind}", "kinds", "One kind", {200: Answer(KindView)}, (Scope.JOBS_READ,), (404,))
)
def get_kind(kind: str) -> Response:
    if kind not in offered():
        raise NotFound(f"there is no kind {kind!r}; known: {', '.join(offered())}")
    return answer_json(_view(kind))


@cache
def _view(kind: str) -> dict[str, Any]:
    spec = find(kind)
    return {
        "kind": spec.kind,
        "version": spec.version,
        "method": spec.method,
        "pool": spec.pool,
        "summary": spec.summary,
        "params_schema": spec.params_schema(),
        "result_schema": spec.result_schema(),
    }
