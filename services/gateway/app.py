"""`create_app()`: the Flask application, for gunicorn (`services.gateway.app:create_app()`)."""

import re
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response, g, request

from services.gateway import (
    admin,
    artifacts,
    auth,
    events,
    files,
    health,
    jobs,
    kinds,
    openapi,
    pages,
    problems,
    queues,
    sweeps,
)
from services.gateway import tracing as traced_requests
from services.gateway.bodies import drain
from services.gateway.operations import Routes
from services.gateway.state import Gateway
from services.gateway.tail import Tail
from shared import tracing
from shared.artifacts import ArtifactStore
from shared.broker import Messages, make_app
from shared.jobs.files import UploadedFiles
from shared.jobs.store import JobStore
from shared.logs import configure_logs
from shared.settings import Settings
from shared.unique import unique_hex

RESOURCES: tuple[Routes, ...] = (
    kinds.routes,
    jobs.routes,
    events.routes,
    artifacts.routes,
    files.routes,
    sweeps.routes,
    queues.routes,
    admin.routes,
    health.routes,
    openapi.routes,
    pages.routes,
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class Application(Flask):
    """Flask, for plain functions only: it need not find out at each call that none of ours is a coroutine."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings | None = None) -> Flask:
    """The gateway over the environment's settings. Connects at the first request, so after any fork."""
    settings = settings or Settings()
    tracing.name_service("tenfold-gateway")
    configure_logs(settings.log_level)
    app = Application("tenfold", static_folder=None)
    app.url_map.merge_slashes = False  # `//v1/jobs` is no route of ours, and no redirect
    operations = tuple(operation for resource in RESOURCES for operation, _ in resource.operations)
    store, store_of_files = JobStore.connect(settings.redis), ArtifactStore(settings.artifact_root)
    app.extensions["tenfold"] = Gateway(
        settings=settings,
        store=store,
        artifacts=store_of_files,
        files=UploadedFiles(store, store_of_files),
        messages=Messages(make_app(settings.redis)),
        tail=Tail(store),
        operations=operations,
    )
    problems.install(app)
    open_paths = frozenset(operation.path for operation in operations if operation.is_open)
    traced_requests.install(app)
    app.before_request(lambda: begin(settings, open_paths))  # one function each: every one costs each request
    app.after_request(finish)
    for resource in RESOURCES:
        resource.install(app)
    return app


def begin(settings: Settings, open_paths: frozenset[str]) -> None:
    """Name the request; check host and origin of every call, the caller of every call but the open ones."""
    environ, known = request.environ, g._get_current_object()  # once: proxies cost at each use
    known.started = time.perf_counter()
    given = environ.get("HTTP_X_REQUEST_ID", "")
    known.request_id = given if REQUEST_ID.match(given) else unique_hex()
    auth.check_origin(environ, settings)
    if environ["PATH_INFO"] not in open_paths:
        known.caller = auth.authenticate(environ, settings)


def finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    status = response.status_code
    if status >= 400:
        drain()
    here: Request = request._get_current_object()  # type: ignore[attr-defined]
    rule = here.url_rule
    health.observe(here.method if rule else "any", rule.rule if rule else "none", status, g.started)
    return response
