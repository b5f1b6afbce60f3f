"""Traces: off they cost nothing, on they reach a real OTLP endpoint, each process from its own provider."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import tracing
from shared.broker import Messages, make_app
from shared.jobs.catalog import catalog
from shared.jobs.record import Priority
from tests.otlp_endpoint import otlp_endpoint

SOURCE = Path(__file__).parents[2]
SPEC = catalog()["govsim.simulate"]


@pytest.fixture
def endpoint(monkeypatch):
    with otlp_endpoint() as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.url)
        tracing.is_on.cache_clear()
        yield endpoint
    monkeypatch.undo()
    tracing._provider.cache_clear()
    tracing.is_on.cache_clear()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    known |= {"PYTHONPATH": str(SOURCE)} | environment
    return subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True)


def test_without_an_endpoint_the_tracing_sdk_is_not_imported_and_no_request_has_a_hook():
    code = """
import sys
from services.gateway.app import create_app
from shared import tracing
app = create_app()
hooks = [app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs]
assert [sum(map(len, hook.values())) for hook in hooks] == [1, 1, 0], hooks
with tracing.span("x", None, job_id="1"):
    tracing.annotate(state="queued")
    assert tracing.traceparent() is None
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk.trace")]
"""
    assert run(code).stderr == ""


def test_naming_the_gateway_names_no_program_it_starts():
    """A worker that inherits the name would sign its spans as the gateway."""
    code = """
import os
from services.gateway.app import create_app
before = dict(os.environ)
create_app()
assert dict(os.environ) == before
"""
    assert run(code).stderr == ""


@pytest.mark.parametrize(
    ("environment", "service"),
    [
        pytest.param({}, "tenfold-gateway", id="own-name"),
        pytest.param({"OTEL_SERVICE_NAME": "theirs"}, "theirs", id="named-by-the-operator"),
        pytest.param({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "theirs", id="named-among-resources"),
    ],
)
def test_spans_are_signed_with_the_service_unless_the_operator_names_one(endpoint, monkeypatch, environment, service):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tracing, "_service", "")
    tracing.name_service("tenfold-gateway")
    with tracing.span("one"):
        pass
    tracing.flush()
    assert [span.service for span in endpoint.spans] == [service]


DEAF = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "off",
    [
        pytest.param({}, id="no-endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": DEAF, "OTEL_SDK_DISABLED": "true"}, id="disabled"),
    ],
)
def test_traces_are_off_unless_asked_for(monkeypatch, off):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    for name, value in off.items():
        monkeypatch.setenv(name, value)
    tracing.is_on.cache_clear()
    assert not tracing.is_on()
    monkeypatch.undo()
    tracing.is_on.cache_clear()


def test_an_endpoint_without_the_package_is_refused_with_the_remedy():
    code = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from shared import tracing
tracing.is_on()
"""
    said = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1").stderr
    assert "pip install 'tenfold[tracing]'" in said


def test_spans_lie_in_each_other_and_name_what_they_are_about(endpoint):
    with tracing.span("outer", is_server=True, http_route="/v1/jobs"):
        tracing.annotate(job_id="J")
        with tracing.span("inner"):
            tracing.mark_failed("broken")
    tracing.flush()
    inner, outer = endpoint.spans
    assert (inner.parent, inner.trace, inner.is_error) == (outer.id, outer.trace, True)
    assert outer.attributes == {"http.route": "/v1/jobs", "tenfold.job_id": "J"}


def test_a_traceparent_continues_the_trace_elsewhere(endpoint):
    with tracing.span("here"):
        header = tracing.traceparent()
    with tracing.span("there", header):
        pass
    tracing.past("before", 1.5, header, end_ms=2_000)
    tracing.flush()
    here, there, before = endpoint.spans
    assert {span.trace for span in endpoint.spans} == {here.trace}
    assert there.parent == before.parent == here.id
    assert (before.start_ns, before.end_ns) == (500_000_000, 2_000_000_000)


@pytest.mark.parametrize("header", ["", "TENFOLD_TRACE", "00-zz-1-01"])
def test_a_header_that_is_none_begins_a_trace_of_its_own(endpoint, header):
    with tracing.span("alone", header):
        pass
    tracing.flush()
    assert [span.parent for span in endpoint.spans] == [""]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_exports_by_a_provider_of_its_own(endpoint):
    with tracing.span("parent"):
        pass
    child = os.fork()
    if child == 0:
        with tracing.span("child"):
            pass
        tracing.flush()
        os._exit(0)
    os.waitpid(child, 0)
    tracing.flush()
    assert sorted(span.name for span in endpoint.spans) == ["child", "parent"]


def test_the_message_has_a_place_for_the_trace_only_where_traces_are_on(endpoint, redis_url):
    app = make_app(redis_url)
    assert '"traceparent": "TENFOLD_TRACE"' in Messages(app).template(SPEC, Priority.NORMAL)
    tracing.is_on.cache_clear()
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
    assert "traceparent" not in Messages(app).template(SPEC, Priority.NORMAL)
    app.close()
