"""What one delivery of a job leaves, however it ends."""

import json
from typing import Any

import pytest
import redis

from shared.jobs.errors import LeaseLost
from shared.jobs.layout import committed_key, job_file
from shared.jobs.record import JobRecord
from shared.jobs.states import JobState
from shared.jobs.store import Claim, JobStore, Outcome
from tests.unit.workers.runtime.conftest import Bench
from workers.runtime.delivery import deliver


def names(record: JobRecord) -> list[str]:
    return [entry["name"] for entry in json.loads(record.artifacts)]


def manifest(bench: Bench, record: JobRecord) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(
        bench.artifacts.get_bytes(job_file(record.id, record.prefix or "", "manifest.json"))
    )
    return read


def test_a_delivered_job_succeeds_with_its_result(bench: Bench) -> None:
    record = bench.run("test.noop", {"note": "hello"})
    assert record.state is JobState.SUCCEEDED
    assert json.loads(record.result or "") == {"note": "hello", "padding": ""}
    assert (record.attempt, record.losses, record.claim) == (1, 0, None)


def test_a_second_delivery_of_the_same_message_is_dropped(bench: Bench) -> None:
    job_id = bench.submit("test.noop", {})
    assert deliver(job_id, 1, bench.runtime) is JobState.SUCCEEDED
    assert deliver(job_id, 1, bench.runtime) is None


def test_a_message_of_a_cancelled_job_is_dropped(bench: Bench) -> None:
    job_id = bench.submit("test.noop", {})
    bench.store.cancel(job_id)
    assert deliver(job_id, 1, bench.runtime) is None
    assert bench.store.get(job_id).state is JobState.CANCELLED


def test_every_listed_artifact_lies_under_the_claims_prefix_with_its_digest(bench: Bench) -> None:
    from hashlib import sha256

    record = bench.run("test.walk", {"steps": 12})
    for entry in json.loads(record.artifacts):
        data = bench.artifacts.get_bytes(job_file(record.id, record.prefix or "", entry["name"]))
        assert (len(data), sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"]), entry["name"]
    assert {"log.txt", "manifest.json", "curves.jsonl", "trace.jsonl", "end.txt"} <= set(names(record))


def test_the_curves_hold_every_metric_in_order(bench: Bench) -> None:
    record = bench.run("test.walk", {"steps": 25})
    lines = bench.artifacts.get_bytes(job_file(record.id, record.prefix or "", "curves.jsonl")).splitlines()
    assert [(point["name"], point["step"]) for point in map(json.loads, lines)] == [("position", n) for n in range(25)]


def test_equal_jobs_have_equal_manifests(bench: Bench) -> None:
    first, second = (bench.run("test.walk", {"steps": 15, "seed": 3}) for _ in range(2))
    assert manifest(bench, first) == manifest(bench, second)


def test_the_manifest_names_what_made_the_result(bench: Bench) -> None:
    start = bench.run("test.walk", {"steps": 5})
    reference = f"job:{start.id}/end.txt"
    said = manifest(bench, bench.run("test.walk", {"steps": 5, "seed": 9, "source": reference}, awaited=(start.id,)))
    digests = {entry["name"]: entry["sha256"] for entry in json.loads(start.artifacts)}
    assert (said["kind"], said["seed"], said["inputs"]) == ("test.walk", 9, {reference: digests["end.txt"]})
    assert {"python", "tenfold", "numpy"} <= set(said["versions"])
    assert said["metrics"]["position"] is not None


def test_the_committed_record_is_written_after_the_commit(bench: Bench) -> None:
    record = bench.run("test.noop", {})
    kept = json.loads(bench.artifacts.get_bytes(committed_key(record.id)))
    assert (kept["state"], kept["prefix"]) == ("succeeded", record.prefix)


@pytest.mark.parametrize(
    ("how", "type", "says"),
    [
        pytest.param("error", "error", "RuntimeError: an error of the method", id="an-error-of-the-method"),
        pytest.param("permanent", "failed", "this will not work", id="permanent"),
        pytest.param("invalid_input", "invalid_input", "line 3 of the input is cut off; export it again", id="invalid"),
        pytest.param("big_result", "failed", "the result is 70024 bytes", id="a-result-over-64-KiB"),
        pytest.param("nan", "failed", "metric 'loss' is nan at step 0", id="not-a-number"),
    ],
)
def test_a_failure_is_the_jobs_outcome_in_the_submitters_words(bench: Bench, how: str, type: str, says: str) -> None:
    record = bench.run("test.fail", {"how": how})
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert (record.error.type, record.error.retryable) == (type, False)
    assert record.error.message.startswith(says)
    assert "Traceback" not in record.error.message


def test_the_traceback_of_a_failure_is_in_the_log(bench: Bench) -> None:
    record = bench.run("test.fail", {"how": "error"})
    log = bench.artifacts.get_bytes(job_file(record.id, record.prefix or "", "log.txt")).decode()
    assert "Traceback" in log
    assert "an error of the method" in log


def test_a_failed_job_keeps_what_it_had_finished(bench: Bench) -> None:
    record = bench.run("test.fail", {"how": "permanent"})
    assert names(record) == ["before.txt", "log.txt", "manifest.json"]


def test_a_retryable_failure_waits_and_counts_a_loss(bench: Bench) -> None:
    record = bench.run("test.fail", {"how": "retryable", "times": 1})
    assert (record.state, record.attempt, record.losses) == (JobState.QUEUED, 1, 1)
    assert bench.store.push_due() == 0  # not before five seconds have passed


def test_a_retryable_failure_of_the_last_attempt_fails_the_job(bench: Bench) -> None:
    record = bench.run("test.fail", {"how": "retryable"}, max_attempts=1)
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert (record.error.type, record.error.retryable) == ("retryable", True)


def test_a_job_whose_running_time_is_used_up_fails_as_timeout(bench: Bench) -> None:
    record = bench.run("test.walk", {"steps": 400, "step_s": 0.02}, timeout_s=1.0)
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.type == "timeout"
    assert "1 s" in record.error.message


class Forgetful(JobStore):
    """A store whose commit happens, and whose answer is lost on the way."""

    def commit(self, claim: Claim, outcome: Outcome) -> JobState:
        super().commit(claim, outcome)
        if not hasattr(self, "_lost"):
            self._lost = True
            raise redis.ConnectionError("connection lost")
        return super().commit(claim, outcome)


def test_a_commit_whose_answer_got_lost_is_not_repeated(bench: Bench) -> None:
    job_id = bench.submit("test.noop", {})
    store = Forgetful(bench.store.redis)
    state = deliver(
        job_id, 1, type(bench.runtime)(bench.runtime.settings, store, bench.artifacts, bench.runtime.worker)
    )
    assert state is JobState.SUCCEEDED
    states = [row[1]["d"] for row in bench.store.redis.xrange(f"tf:events:{job_id}") if row[1]["t"] == "state"]
    assert states == ["queued", "running", "succeeded"]


class Usurped(JobStore):
    """A store in which somebody else takes the job over just before the commit."""

    def commit(self, claim: Claim, outcome: Outcome) -> JobState:
        self.lose(claim.job_id, claim.attempt)
        return super().commit(claim, outcome)


def test_a_worker_that_lost_its_claim_commits_nothing(bench: Bench) -> None:
    job_id = bench.submit("test.noop", {})
    usurped = type(bench.runtime)(
        bench.runtime.settings, Usurped(bench.store.redis), bench.artifacts, bench.runtime.worker
    )
    assert deliver(job_id, 1, usurped) is None
    record = bench.store.get(job_id)
    assert (record.state, record.result, record.losses) == (JobState.QUEUED, None, 1)
    assert bench.deliver(job_id, 2).state is JobState.SUCCEEDED


def test_a_stale_attempt_cannot_report(bench: Bench) -> None:
    from shared.jobs.store import Report

    job_id = bench.submit("test.noop", {})
    claimed = bench.store.claim(job_id, 1, bench.runtime.worker)
    assert claimed is not None
    bench.store.lose(job_id, 1)
    with pytest.raises(LeaseLost):
        bench.store.report(claimed[0], Report({"progress": "{}"}))


class Outage(JobStore):
    """A store that can't be reached around the end of a job, a few times."""

    failures = 3

    def commit(self, claim: Claim, outcome: Outcome) -> JobState:
        if self.failures:
            self.failures -= 1
            raise redis.ConnectionError("down")
        return super().commit(claim, outcome)


def test_an_outage_shorter_than_the_lease_loses_no_work(bench: Bench) -> None:
    job_id = bench.submit("test.noop", {})
    patient = type(bench.runtime)(
        bench.runtime.settings, Outage(bench.store.redis), bench.artifacts, bench.runtime.worker
    )
    assert deliver(job_id, 1, patient) is JobState.SUCCEEDED
    assert bench.store.get(job_id).losses == 0
