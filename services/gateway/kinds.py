"""`/v1/kinds`: what can be submitted."""

from functools import cache
from typing import Any

from flask import Response

from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.views import KindList, KindView
from shared.jobs.catalog import catalog, find
from shared.jobs.tokens import Scope

routes = Routes()


@routes.add(Operation("GET", "/v1/kinds", "kinds", "Every kind", {200: Answer(KindList)}, scopes=(Scope.JOBS_READ,)))
def list_kinds() -> Response:
    return answer_json({"items": [_view(kind) for kind in catalog()]})


@routes.add(
    Operation("GET", "/v1/kinds/{kind}", "kinds", "One kind", {200: Answer(KindView)}, (Scope.JOBS_READ,), (404,))
)
def get_kind(kind: str) -> Response:
    return answer_json(_view(find(kind).kind))


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
