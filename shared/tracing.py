"""OpenTelemetry traces of a job's way, from the HTTP request to the commit, exported over OTLP/HTTP.

They are on where the standard variables name an endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`, or `…_TRACES_ENDPOINT`).
Where none does, the tracing SDK is not imported, no request has a hook of ours, and every call here is one `if`. A
provider has a thread and connections: each process makes its own at its first span, so after any fork or spawn.

The trace of a job is its submitting request's: the request's W3C `traceparent` lies in the job's record and in the
headers of its Celery message, through every attempt.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_MS = 2000
Attribute = str | int | float | bool
UNNAMED = "unknown_service"  # so the SDK calls one that nothing in the environment names
_service = UNNAMED
_CONVENTIONS = {
    "http_request_method": "http.request.method",
    "http_route": "http.route",
    "http_response_status_code": "http.response.status_code",
}


@cache
def is_on() -> bool:
    """Whether the environment names an endpoint. Raises ValueError when it does and the package is missing."""
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as missing:
        raise ValueError(
            f"an OTLP endpoint is set but {missing.name} is not installed: pip install 'tenfold[tracing]', "
            "or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from missing
    return True


def name_service(name: str) -> None:
    """What this process's spans say they come from, unless the environment names a service.

    The environment stays as it is: programs that this process starts are other services.
    """
    global _service
    _service = name


@contextmanager
def span(
    name: str, parent: "str | Context | None" = None, *, is_server: bool = False, **attributes: Attribute
) -> Iterator[None]:
    """The block as a span: below `parent` (a `traceparent`, or a context), else below the current span."""
    if not is_on():
        yield
        return
    from opentelemetry.trace import SpanKind

    kind = SpanKind.SERVER if is_server else SpanKind.INTERNAL
    with _tracer().start_as_current_span(name, _context(parent), kind, attributes=_named(attributes)):
        yield


def past(name: str, seconds: float, parent: "str | Context | None" = None, end_ms: int | None = None) -> None:
    """A span that is over already: `seconds` long, ending now, or at that millisecond of the epoch."""
    if not is_on():
        return
    end_ns = time.time_ns() if end_ms is None else end_ms * 1_000_000
    start_ns = end_ns - int(seconds * 1e9)
    _tracer().start_span(name, _context(parent), start_time=start_ns).end(end_ns)


def annotate(**attributes: Attribute) -> None:
    """More attributes of the current span."""
    if is_on():
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(_named(attributes))


def mark_failed(why: str) -> None:
    """The current span tells of a failure."""
    if is_on():
        from opentelemetry.trace import Status, StatusCode, get_current_span

        get_current_span().set_status(Status(StatusCode.ERROR, why))


def current() -> "Context | None":
    """The current context, to be the parent of spans of other threads."""
    if not is_on():
        return None
    from opentelemetry.context import get_current

    return get_current()


def traceparent() -> str | None:
    """The current span as the W3C header, or None."""
    if not is_on():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def add_trace_id(_: Any, __: str, event: Any) -> Any:
    """A structlog processor: the trace a line belongs to."""
    from opentelemetry.trace import format_trace_id, get_current_span

    about = get_current_span().get_span_context()
    if about.is_valid:
        event["trace_id"] = format_trace_id(about.trace_id)
    return event


def flush() -> None:
    """Send what is waiting, before the process ends."""
    if is_on():
        _provider(os.getpid()).force_flush(FLUSH_MS)


def _context(parent: "str | Context | None") -> "Context | None":
    if not isinstance(parent, str):
        return parent
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _named(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    """`job_id` is `tenfold.job_id`; what OpenTelemetry's conventions name is named so."""
    return {_CONVENTIONS.get(name, f"tenfold.{name}"): value for name, value in attributes.items()}


def _tracer() -> "Tracer":
    return _provider(os.getpid()).get_tracer("tenfold")


@cache
def _provider(pid: int) -> "TracerProvider":
    """One per process: `pid` makes a forked one's another."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"process.pid": pid})
    if str(resource.attributes["service.name"]).startswith(UNNAMED):
        resource = resource.merge(Resource({"service.name": _service}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
