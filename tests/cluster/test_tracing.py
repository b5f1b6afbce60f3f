"""One job's way as one trace, from a whole cluster to a real OTLP endpoint."""

import json

import pytest

from services.client import Tenfold
from services.local.layout import SOURCE
from tests.cluster.embedded import Embedded, eventually
from tests.otlp_endpoint import otlp_endpoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def endpoint():
    with otlp_endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def traced(tmp_path_factory, kinds_path, endpoint):
    cluster = Embedded(
        tmp_path_factory.mktemp("traced"),
        PYTHONPATH=f"{SOURCE}:{kinds_path}",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url,
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    cluster.up()
    yield cluster
    cluster.end()


@pytest.fixture(scope="module")
def job(traced):
    with Tenfold(traced.url, patience_s=30) as tenfold:
        job = tenfold.wait(tenfold.submit("insta.index", {"library": "builtin:tasks"}).id, timeout_s=200)
    assert job.state == "succeeded", job.error
    return job


@pytest.fixture(scope="module")
def spans(endpoint, job):
    """Of the job's trace, by name; a message that came twice, on a busy machine, left an attempt that was dropped."""
    eventually(lambda: {"commit", "attempt"} <= {span.name for span in endpoint.trace_of(job.id)})
    trace = endpoint.trace_of(job.id)
    dropped = {span.id for span in trace if span.attributes.get("tenfold.state") == "dropped"}
    return {span.name: span for span in trace if not {span.id, span.parent} & dropped}


def test_a_trace_shows_gateway_queue_claim_phases_and_commit(spans):
    assert {"POST /v1/jobs", "queue", "attempt", "claim", "run", "encode", "write", "commit"} <= set(spans)


def test_the_parts_of_a_trace_hang_together(spans):
    request = spans["POST /v1/jobs"]
    parents = {name: span.parent for name, span in spans.items()}
    assert parents["queue"] == parents["attempt"] == request.id
    assert parents["claim"] == parents["run"] == parents["commit"] == spans["attempt"].id
    assert parents["encode"] == parents["write"] == spans["run"].id


def test_the_parts_of_a_trace_follow_each_other_in_time(spans):
    run, commit = spans["run"], spans["commit"]
    assert spans["POST /v1/jobs"].start_ns < spans["claim"].start_ns < run.start_ns < commit.start_ns
    assert run.start_ns <= spans["encode"].start_ns
    assert spans["write"].end_ns <= run.end_ns <= commit.end_ns <= spans["attempt"].end_ns


def test_spans_say_who_they_are_from_and_what_they_are_about(spans, job):
    assert spans["POST /v1/jobs"].service == "tenfold-gateway"
    assert spans["attempt"].service in ("tenfold-worker-cpu", "tenfold-worker-gpu")
    about = spans["attempt"].attributes
    assert (about["tenfold.job_id"], about["tenfold.attempt"]) == (job.id, 1)
    assert (about["tenfold.kind"], about["tenfold.state"]) == ("insta.index", "succeeded")
    assert spans["POST /v1/jobs"].attributes["http.response.status_code"] == 202


def test_a_failed_attempt_is_marked_so(traced, endpoint):
    with Tenfold(traced.url, patience_s=30) as tenfold:
        job = tenfold.wait(tenfold.submit("test.fail", {"how": "permanent"}).id, timeout_s=60)
    eventually(lambda: "attempt" in {span.name for span in endpoint.trace_of(job.id)})
    attempt = next(span for span in endpoint.trace_of(job.id) if span.name == "attempt")
    assert attempt.is_error
    assert attempt.attributes["tenfold.state"] == "failed"


def test_a_workers_lines_name_job_attempt_kind_and_trace(traced, endpoint, job, spans):
    pool = "gpu" if (traced.layout.logs / "worker-gpu.log").read_text().count(job.id) else "cpu"
    text = (traced.layout.logs / f"worker-{pool}.log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    about = [line for line in lines if line.get("job_id") == job.id and line["event"] in ("claimed", "ended")]
    assert [line["event"] for line in about] == ["claimed", "ended"]
    assert {(line["attempt"], line["kind"], line["trace_id"]) for line in about} == {
        (1, "insta.index", spans["attempt"].trace)
    }


def test_watching_makes_no_spans(endpoint):
    assert not {span.name for span in endpoint.spans} & {"GET /healthz", "GET /readyz", "GET /metrics"}
