"""`create_app()`: the annotation service's Flask application, for gunicorn."""

import json
from functools import cache
from typing import Any

from flask import Flask, Response

from services.annotation import document_routes, project_routes
from services.annotation.projects import Projects
from services.gateway import app as gateway_app
from services.gateway import health, openapi, problems
from services.gateway import tracing as traced_requests
from services.gateway.auth import trusts_loopback
from services.gateway.operations import Answer, Operation, Routes
from services.gateway.state import Gateway, gateway
from services.gateway.tail import Tail
from services.gateway.views import Document
from shared import tracing
from shared.artifacts import ArtifactStore
from shared.broker import Messages, make_app
from shared.jobs.files import UploadedFiles
from shared.jobs.store import JobStore
from shared.logs import configure_logs
from shared.settings import Settings

documents = Routes()


@documents.add(Operation("GET", "/openapi.json", "documents", "This document", {200: Answer(Document)}))
def openapi_json() -> Response:
    return Response(_text(not trusts_loopback(gateway().settings)), mimetype="application/json")


RESOURCES: tuple[Routes, ...] = (project_routes.routes, document_routes.routes, health.routes, documents)


@cache
def _text(needs_token: bool) -> str:
    return json.dumps(described(needs_token=needs_token), ensure_ascii=False)


def described(*, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document."""
    operations = [operation for resource in RESOURCES for operation, _ in resource.operations]
    document = openapi.document(operations, needs_token=needs_token)
    about = {"title": "Tenfold annotation", "version": "1", "description": "Correcting recommended relations."}
    return {**document, "info": about}


def create_app(settings: Settings | None = None) -> Flask:
    """The service over the environment's settings; the gateway's state, tokens and problems."""
    settings = settings or Settings()
    tracing.name_service("tenfold-annotation")
    configure_logs(settings.log_level)
    app = Flask("tenfold-annotation", static_folder=None)
    app.url_map.merge_slashes = False
    operations = tuple(operation for resource in RESOURCES for operation, _ in resource.operations)
    store, artifacts = JobStore.connect(settings.redis), ArtifactStore(settings.artifact_root)
    app.extensions["tenfold"] = Gateway(
        settings=settings, store=store, artifacts=artifacts, files=UploadedFiles(store, artifacts),
        messages=Messages(make_app(settings.redis)), tail=Tail(store), operations=operations,
    )  # fmt: skip
    app.extensions["annotation"] = Projects(artifacts)
    problems.install(app)
    traced_requests.install(app)
    open_paths = frozenset(operation.path for operation in operations if operation.is_open)
    app.before_request(lambda: gateway_app.begin(settings, open_paths))
    app.after_request(gateway_app.finish)
    for resource in RESOURCES:
        resource.install(app)
    return app
