"""What watches the gateway: alive, ready, measured."""

import pytest


def test_a_gateway_whose_redis_is_away_is_alive_and_not_ready(api, parts, monkeypatch):
    import redis

    def away(*_):
        raise redis.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused.")

    monkeypatch.setattr(parts.store.redis, "ping", away)
    assert api.get("/healthz").json == {"status": "ok"}
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json["detail"]) == (503, "Redis does not answer")


def test_a_gateway_whose_artifact_store_is_away_is_not_ready_and_names_no_path(api, parts, monkeypatch):
    def away():
        raise OSError(30, "Read-only file system", "/srv/artifacts")

    monkeypatch.setattr(parts.artifacts, "check", away)
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json["detail"]) == (503, "the artifact store does not answer")


def test_a_gateway_that_can_work_is_ready(api):
    assert api.get("/readyz").json == {"status": "ok"}


@pytest.fixture
def metric(api):
    """The value of a metric's line, by its start."""

    def read(start: str) -> float:
        lines = [line for line in api.get("/metrics").text.splitlines() if line.startswith(start)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    return read


def test_metrics_tell_what_the_records_say(submit, worker, metric):
    first = submit()
    submit()
    worker.run(first)
    worker.claim(submit("test.walk"))
    assert metric('tenfold_pool_waiting{pool="test"}') == 1
    assert metric('tenfold_pool_running{pool="test"}') == 1
    ended = 'tenfold_jobs_ended_total{error_type="",kind="test.noop",pool="test",state="succeeded"}'
    assert metric(ended) == 1
    assert metric('tenfold_job_claims_total{kind="test.walk",pool="test"}') == 1
    for histogram, count in (("wait", 1), ("run", 1)):
        assert metric(f'tenfold_job_{histogram}_seconds_count{{kind="test.noop",pool="test"}}') == count
        assert metric(f'tenfold_job_{histogram}_seconds_bucket{{kind="test.noop",le="+Inf",pool="test"}}') == count


def test_the_bounds_of_the_histograms_are_those_of_the_scripts():
    from services.gateway.metrics import BOUNDS
    from shared.jobs.store import script_texts

    assert f"BOUNDS_S = {{{', '.join(repr(bound) for bound in BOUNDS)}}}" in script_texts()["lib"]


def test_buckets_are_summed_up_and_counters_of_other_versions_are_left_alone():
    from services.gateway.metrics import counted, histograms

    counters = {"wait|test|test.noop|0.5": "2", "wait|test|test.noop|+Inf": "1", "wait_ms|test|test.noop": "4000"}
    counters |= {"waited_ms|test": "7", "lost|test.noop": "3", "claims|old.kind": "1"}
    wait = {sample.labels.get("le"): sample.value for sample in next(iter(histograms(counters))).samples}
    assert (wait["0.1"], wait["0.5"], wait["604800"], wait["+Inf"]) == (0, 2, 2, 3)
    families = {family.name: family.samples for family in counted(counters)}
    assert families["tenfold_job_losses"] == []
    assert families["tenfold_job_claims"][0].labels == {"pool": "unknown", "kind": "old.kind"}


def test_requests_are_counted_by_route_and_not_by_what_strangers_ask_for(api, metric):
    counted = 'tenfold_http_request_seconds_count{method="GET",route="/v1/me",status="200"}'
    before = metric(counted)
    api.get("/v1/me")
    api.open("/nowhere/in/particular", method="BREW")
    assert metric(counted) == before + 1
    text = api.get("/metrics").text
    assert "particular" not in text
    assert "BREW" not in text


def test_queues_tell_what_an_autoscaler_needs(api, parts, submit, worker):
    from shared.jobs.workers import WorkerList

    for _ in range(5):
        submit()
    worker.claim(submit())
    WorkerList(parts.store).announce("test@one", "test", 2, alive_for_s=60)
    queue = next(item for item in api.get("/v1/queues").json["items"] if item["pool"] == "test")
    assert (queue["waiting"], queue["running"], queue["slots"], queue["workers"]) == (5, 1, 2, 1)
    assert queue["desired_workers"] == 3  # ceil((5 + 1) / 2)
    assert queue["oldest_wait_s"] >= 0


def test_metrics_tell_the_memory_of_every_workers_gpus(api, parts):
    from shared.jobs.workers import GpuMemory, WorkerList

    workers = WorkerList(parts.store)
    workers.announce("gpu@one", "gpu", 1, alive_for_s=60)
    workers.announce_gpus("gpu@one", "gpu", [GpuMemory(2**30, 8 * 2**30)])
    text = api.get("/metrics").text
    assert 'tenfold_gpu_memory_used_bytes{gpu="0",pool="gpu",worker="gpu@one"} 1.073741824e+09' in text
    assert 'tenfold_gpu_memory_total_bytes{gpu="0",pool="gpu",worker="gpu@one"} 8.589934592e+09' in text
