"""The thread beside a running job."""

import json
import time

import pytest
import redis

from shared.jobs.errors import Cancelled, HandBack, LeaseLost, TimedOut
from shared.jobs.store import Claim, Flags, JobStore, Report
from tests.unit.workers.runtime.conftest import Bench
from workers.runtime.heartbeat import Heartbeat, Lease, interruption_of


def claimed(bench: Bench) -> Claim:
    answer = bench.store.claim(bench.submit("test.noop", {}), 1, bench.runtime.worker)
    assert answer is not None
    return answer[0]


def stopped_by(heartbeat: Heartbeat, within_s: float = 5.0) -> type[Exception] | None:
    """The interruption that `check` raises before the time is up."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            heartbeat.check()
        except (Cancelled, HandBack, LeaseLost, TimedOut) as interruption:
            return type(interruption)
        time.sleep(0.02)
    return None


def test_a_cancel_reaches_the_method(bench: Bench) -> None:
    claim = claimed(bench)
    with Heartbeat(bench.store, claim, Lease(15, 3)) as heartbeat:
        bench.store.cancel(claim.job_id)
        assert stopped_by(heartbeat) is Cancelled


def test_a_stopping_worker_reaches_the_method(bench: Bench) -> None:
    claim = claimed(bench)
    with Heartbeat(bench.store, claim, Lease(15, 3)) as heartbeat:
        assert bench.store.request_hand_back(bench.runtime.worker.name) == [claim.job_id]
        assert stopped_by(heartbeat) is HandBack


def test_a_lost_lease_reaches_the_method(bench: Bench) -> None:
    claim = claimed(bench)
    with Heartbeat(bench.store, claim, Lease(15, 3)) as heartbeat:
        bench.store.lose(claim.job_id, 1)
        assert stopped_by(heartbeat) is LeaseLost


def test_running_time_ends_by_the_workers_own_clock(bench: Bench) -> None:
    with Heartbeat(bench.store, claimed(bench), Lease(15, 3, time_left_s=0.2)) as heartbeat:
        assert stopped_by(heartbeat) is TimedOut


def test_the_lease_is_renewed_while_the_method_runs(bench: Bench) -> None:
    claim = claimed(bench)
    before = bench.store.redis.zscore("tf:leases", claim.job_id)
    with Heartbeat(bench.store, claim, Lease(30, 0.3)):
        time.sleep(1.5)
    assert bench.store.redis.zscore("tf:leases", claim.job_id) > before


def test_what_is_said_together_is_sent_in_order_and_only_the_newest_progress(bench: Bench) -> None:
    claim = claimed(bench)
    with Heartbeat(bench.store, claim, Lease(15, 3)) as heartbeat:
        for n in range(50):
            heartbeat.event("metric", {"name": "loss", "step": n, "value": 0.0})
            heartbeat.progress({"done": n, "total": 50, "unit": "steps", "message": ""})
        heartbeat.flush()
    rows = [row[1] for row in bench.store.redis.xrange(f"tf:events:{claim.job_id}")]
    assert [json.loads(row["d"])["step"] for row in rows if row["t"] == "metric"] == list(range(50))
    assert json.loads(bench.store.get(claim.job_id).progress or "")["done"] == 49
    assert sum(row["t"] == "progress" for row in rows) < 50


class Flaky(JobStore):
    """A store that can't be reached for a while."""

    failures = 3

    def report(self, claim: Claim, report: Report) -> Flags:
        if self.failures:
            self.failures -= 1
            raise redis.ConnectionError("down")
        return super().report(claim, report)


def test_nothing_said_during_an_outage_is_forgotten(bench: Bench) -> None:
    claim = claimed(bench)
    with Heartbeat(Flaky(bench.store.redis), claim, Lease(15, 3)) as heartbeat:
        for n in range(5):
            heartbeat.event("metric", {"name": "loss", "step": n, "value": 0.0})
        heartbeat.log("a line", {"message": "a line"})
        heartbeat.write({"checkpoint": "{}"})
    rows = [row[1] for row in bench.store.redis.xrange(f"tf:events:{claim.job_id}")]
    assert [json.loads(row["d"])["step"] for row in rows if row["t"] == "metric"] == list(range(5))
    assert "a line" in bench.store.redis.get(f"tf:log:{claim.job_id}")
    assert bench.store.get(claim.job_id).checkpoint == "{}"


def test_an_interruption_is_found_behind_what_a_library_made_of_it() -> None:
    with pytest.raises(ValueError, match="wrapped") as caught:
        _wrap(Cancelled("stop"))
    assert isinstance(interruption_of(caught.value), Cancelled)
    assert interruption_of(RuntimeError("plain")) is None


def _wrap(error: Exception) -> None:
    try:
        raise error
    except Cancelled as inner:
        raise ValueError("wrapped") from inner
