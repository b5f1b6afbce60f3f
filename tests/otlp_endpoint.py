"""A real OTLP/HTTP endpoint of a test's own: takes what exporters send and reads it as the protocol says."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    name: str
    trace: str
    id: str
    parent: str
    service: str
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: dict[str, Any]


@dataclass
class Endpoint:
    url: str
    spans: list[Span] = field(default_factory=list)

    def trace_of(self, job_id: str) -> list[Span]:
        """Every span of the trace in which the job was submitted, oldest first."""
        traces = {span.trace for span in self.spans if span.attributes.get("tenfold.job_id") == job_id}
        assert len(traces) <= 1, f"{job_id} is in {len(traces)} traces"
        return sorted((span for span in self.spans if span.trace in traces), key=lambda span: span.start_ns)


@contextmanager
def otlp_endpoint() -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}")
    server.endpoint = endpoint  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        is_traces = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
        if is_traces:
            self.server.endpoint.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))  # type: ignore[attr-defined]
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if is_traces else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = _values(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), service,
                    span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2,
                    _values(span.attributes),
                )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
