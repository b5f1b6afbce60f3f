"""Each request as a span, where traces are on. Where they are off, no request pays for it."""

from contextlib import ExitStack

from flask import Flask, Response, g, request

from shared import tracing

UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})


def install(app: Flask) -> None:
    """To be called before any other `before_request`: a refused request is a span too."""
    if tracing.is_on():
        app.before_request(_open)
        app.after_request(_name_status)
        app.teardown_request(_close)


def _open() -> None:
    """Begin the span, below the caller's `traceparent` if it sent one."""
    if request.path in UNTRACED:
        return
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.url_rule else "any"
    g.spans = ExitStack()
    caller = request.headers.get("traceparent")
    g.spans.enter_context(
        tracing.span(f"{method} {route}", caller, is_server=True, http_request_method=method, http_route=route)
    )


def _name_status(response: Response) -> Response:
    if "spans" in g:
        tracing.annotate(http_response_status_code=response.status_code, request_id=g.get("request_id", ""))
    return response


def _close(_: BaseException | None) -> None:
    if "spans" in g:
        g.spans.close()
