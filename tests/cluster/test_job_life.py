"""The life of a job on a real cluster: what the architecture promises beyond the happy path."""

import json
import time
from urllib.request import urlopen

import psutil
import pytest
import redis

from services.local.layout import SOURCE
from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


@pytest.fixture
def store(cluster):
    """The cluster's Redis, to look behind the API."""
    client = redis.Redis(port=cluster.base + 3, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def idle(tenfold, cluster):
    """The test pool has a worker and nothing to do."""

    def is_idle():
        pool = next(queue for queue in tenfold.queues() if queue.pool == "test")
        return pool.workers == 1 and pool.running == pool.waiting == 0

    eventually(is_idle)


def test_a_job_that_ignores_its_cancel_is_killed_with_everything_it_started(tenfold, idle):
    job = tenfold.submit("test.stubborn", {"seconds": 60})
    eventually(lambda: "child" in tenfold.log(job.id))
    child = int(tenfold.log(job.id).rsplit("child ", 1)[1])
    asked = tenfold.cancel(job.id)
    assert (asked.state, asked.cancel_requested_at is not None) == ("running", True)
    ended = tenfold.wait(job.id, timeout_s=30)
    assert ended.state == "cancelled"
    eventually(lambda: not psutil.pid_exists(child))


def test_a_job_waits_for_the_one_it_refers_to_and_reads_its_artifact(tenfold, idle):
    first = tenfold.submit("test.walk", {"steps": 20, "step_s": 0.05})
    second = tenfold.submit("test.walk", {"steps": 1, "source": f"job:{first.id}/end"})
    assert (second.state, second.waiting_for) == ("blocked", [first.id])
    assert tenfold.wait(second.id, timeout_s=30).state == "succeeded"


def test_the_jobs_behind_a_failed_one_fail_with_it(tenfold, idle):
    first = tenfold.submit("test.stubborn", {"seconds": 1})
    second = tenfold.submit("test.walk", {"source": f"job:{first.id}"})
    third = tenfold.submit("test.walk", {"source": f"job:{second.id}"})
    tenfold.cancel(first.id)
    ends = [tenfold.wait(job.id, timeout_s=30) for job in (second, third)]
    assert [(end.state, end.error.type) for end in ends] == [("failed", "dependency_failed")] * 2
    assert first.id in ends[0].error.message


def test_jobs_start_in_the_order_of_their_priority(tenfold, idle):
    running = tenfold.submit("test.walk", {"steps": 10, "step_s": 0.1})
    eventually(lambda: tenfold.job(running.id).state == "running")
    submitted = {name: tenfold.submit("test.noop", priority=name).id for name in ("low", "normal", "high")}
    started = {name: tenfold.wait(job_id, timeout_s=30).started_at for name, job_id in submitted.items()}
    assert sorted(started, key=started.get) == ["high", "normal", "low"]


def test_a_message_that_vanished_is_pushed_again(tenfold, idle, cluster, store):
    cluster.stop("worker-test")
    try:
        job = tenfold.submit("test.noop")
        assert store.delete("test:3") == 1
    finally:
        cluster.start("worker-test")
    ended = tenfold.wait(job.id, timeout_s=40)
    assert (ended.state, ended.attempt, ended.losses) == ("succeeded", 1, 0)


def test_a_worker_that_does_not_know_the_kind_leaves_the_job_to_others(tenfold, idle, cluster):
    cluster.stop("worker-test")
    try:
        with cluster.extra_worker("test", "old-image", PYTHONPATH=str(SOURCE)):
            eventually(lambda: sum(queue.workers for queue in tenfold.queues() if queue.pool == "test") == 1)
            job = tenfold.submit("test.noop")
            time.sleep(3)
            assert tenfold.job(job.id).state == "queued"
            cluster.start("worker-test")
            ended = tenfold.wait(job.id, timeout_s=40)
            assert (ended.state, ended.worker.partition("@")[0], ended.losses) == ("succeeded", "test", 0)
    finally:
        cluster.start("worker-test")


def test_a_job_longer_than_its_timeout_fails_and_a_retry_goes_on_from_its_checkpoint(tenfold, idle, tmp_path):
    job = tenfold.submit("test.walk", {"steps": 60, "step_s": 0.05}, timeout_s=2)
    ended = tenfold.wait(job.id, timeout_s=30)
    assert (ended.state, ended.error.type, ended.attempt) == ("failed", "timeout", 1)
    tenfold.retry(job.id)
    again = tenfold.wait(job.id, timeout_s=30)
    assert (again.state, again.attempt) == ("succeeded", 2)
    trace = tenfold.download(job.id, "trace.jsonl", tmp_path / "retried.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in trace] == list(range(60))


def test_a_job_whose_child_dies_is_run_again_until_its_losses_are_used_up(tenfold, idle):
    job = tenfold.submit("test.fail", {"how": "exit"}, max_attempts=2)
    ended = tenfold.wait(job.id, timeout_s=40)
    assert (ended.state, ended.error.type, ended.attempt, ended.losses) == ("failed", "worker_lost", 2, 2)


def test_flower_tells_the_truth_about_how_tasks_ended(tenfold, idle, cluster):
    ids = {
        "SUCCESS": tenfold.submit("test.noop").id,
        "FAILURE": tenfold.submit("test.fail", {"how": "permanent"}).id,
        "REVOKED": tenfold.submit("test.walk", {"steps": 500, "step_s": 0.05}).id,
    }
    eventually(lambda: tenfold.job(ids["REVOKED"]).state == "running")
    tenfold.cancel(ids["REVOKED"])
    for job_id in ids.values():
        tenfold.wait(job_id, timeout_s=30)

    def shown():
        with urlopen(f"http://127.0.0.1:{cluster.base + 2}/api/tasks", timeout=10) as answer:
            return {task.partition(".")[0]: about["state"] for task, about in json.load(answer).items()}

    eventually(lambda: {job_id: shown().get(job_id) for job_id in ids.values()} == {v: k for k, v in ids.items()})


def test_every_line_of_every_service_and_worker_is_json(cluster):
    names = ("gateway", "reconciler", "annotation", "flower", "worker-cpu", "worker-test")
    for name in names:
        text = (cluster.layout.logs / f"{name}.log").read_text().replace("worker: Warm shutdown (MainProcess)", "")
        lines = [line for line in text.splitlines() if line]  # Celery prints that by itself when a worker stops
        assert [line for line in lines if not line.startswith("{")] == [], name
        assert all({"event", "level", "timestamp"} <= set(json.loads(line)) for line in lines), name
        assert lines or name == "annotation", name


def test_a_society_runs_on_after_the_ray_head_was_killed(tenfold, cluster):
    first = tenfold.wait(tenfold.submit("govsim.simulate", {"runs": 5}).id, timeout_s=60)
    assert first.state == "succeeded"
    psutil.Process(cluster.pid("ray")).kill()
    second = tenfold.wait(tenfold.submit("govsim.simulate", {"runs": 5}, max_attempts=10).id, timeout_s=90)
    assert (second.state, second.result) == ("succeeded", first.result)
