"""Claiming a job and writing as its holder."""

import pytest

from shared.jobs.errors import Conflict, LeaseLost
from shared.jobs.states import JobState
from shared.jobs.store import LOG_BYTES, Claim, Outcome, Report, Worker
from tests.unit.jobs.store_world import START_MS, TEMPLATE, Fault

WORKER = Worker("w@host", 7, lease_ttl_s=15, threads=3)


def test_a_claim_counts_the_attempt_and_takes_the_lease(lives):
    id = lives.submit()
    lives.wait(2)
    claim, record = lives.store.claim(id, 1, WORKER)
    assert (record.state, record.attempt, record.worker, record.pid) == (JobState.RUNNING, 1, "w@host", 7)
    assert (record.waited_ms, record.started_ms, record.claimed_ms) == (2000, START_MS + 2000, START_MS + 2000)
    assert record.prefix == claim.prefix == f"1-{claim.token}"
    assert lives.redis.zscore("tf:leases", id) == START_MS + 17_000


@pytest.mark.parametrize("attempt", [0, 2, 3])
def test_a_message_of_another_attempt_claims_nothing(lives, attempt):
    assert lives.store.claim(lives.submit(), attempt, WORKER) is None


def test_a_running_job_is_claimed_by_nobody_else(lives):
    id = lives.submit()
    lives.claim(id)
    assert lives.store.claim(id, 1, WORKER) is None
    assert lives.store.claim(id, 2, WORKER) is None


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_finished_job_is_claimed_by_nobody(lives, state):
    id = lives.submit()
    lives.end(id, state)
    assert lives.store.claim(id, 2, WORKER) is None


def test_a_job_cancelled_in_the_queue_is_claimed_by_nobody(lives):
    id = lives.submit()
    lives.store.cancel(id)
    assert lives.store.claim(id, 1, WORKER) is None


def test_a_deleted_job_is_claimed_by_nobody(lives):
    assert lives.store.claim("01HF7YAT00001T61MNBTD39MPC", 1, WORKER) is None


def test_a_claim_whose_answer_was_lost_is_answered_when_sent_again(lives):
    id = lives.submit()
    lives.redis.fault = Fault(0, "twice")
    claim, record = lives.store.claim(id, 1, WORKER)
    assert (record.claim, record.attempt) == (claim.token, 1)


def test_the_first_claim_fixes_the_number_of_threads(lives):
    id = lives.submit()
    lives.store.hand_back(lives.store.claim(id, 1, WORKER)[0])
    _, record = lives.store.claim(id, 2, Worker("v@host", 1, threads=8))
    assert record.threads == 3


WRITES = [
    pytest.param(lambda store, claim: store.renew(claim, 15), id="renew"),
    pytest.param(lambda store, claim: store.flags(claim), id="flags"),
    pytest.param(lambda store, claim: store.report(claim, Report({"progress": "{}"})), id="report"),
    pytest.param(lambda store, claim: store.commit(claim, Outcome(JobState.SUCCEEDED)), id="commit"),
    pytest.param(lambda store, claim: store.hand_back(claim), id="hand-back"),
    pytest.param(lambda store, claim: store.retry_later(claim, "retryable", "m"), id="retry-later"),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_attempt_writes_nothing(lives, write):
    id = lives.submit()
    stale = lives.claim(id)
    lives.store.lose(id, 1)
    lives.claim(id)
    before = lives.redis.hgetall(f"tf:job:{id}")
    with pytest.raises(LeaseLost, match="no longer attempt 1's"):
        write(lives.store, stale)
    assert lives.redis.hgetall(f"tf:job:{id}") == before


@pytest.mark.parametrize("write", WRITES)
def test_the_right_attempt_with_another_claim_writes_nothing(lives, write):
    id = lives.submit()
    lives.claim(id)
    with pytest.raises(LeaseLost):
        write(lives.store, Claim(id, 1, "forged"))


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_after_the_commit(lives, write):
    id = lives.submit()
    claim = lives.end(id)
    with pytest.raises(LeaseLost):
        write(lives.store, claim)


def test_a_renewal_prolongs_the_lease_from_now(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.wait(10)
    assert lives.store.renew(claim, 15) == (False, False, False)
    assert lives.redis.zscore("tf:leases", id) == START_MS + 25_000


def test_a_worker_learns_what_is_asked_of_its_job(lives):
    id = lives.submit(timeout_s=5)
    claim = lives.claim(id)
    lives.store.cancel(id)
    lives.store.request_hand_back("w@host")
    lives.wait(6)
    assert lives.store.renew(claim, 15) == (True, True, True)
    assert lives.store.flags(claim)[:2] == (True, True)


def test_a_report_publishes_fields_events_and_log(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.report(claim, Report({"progress": '{"done":1}'}, [("metric", '{"value":2}')], "a line\n"))
    assert lives.record(id).progress == '{"done":1}'
    assert lives.redis.get(f"tf:log:{id}") == "a line\n"
    kinds = [(fields["t"], fields["a"], fields["d"]) for _, fields in lives.redis.xrange(f"tf:events:{id}")]
    assert kinds == [("state", "0", "queued"), ("state", "1", "running"), ("metric", "1", '{"value":2}')]


def test_a_log_stops_growing_at_its_bound(lives):
    id = lives.submit()
    claim = lives.claim(id)
    for _ in range(3):
        lives.store.report(claim, Report(log="x" * (LOG_BYTES - 1)))
    assert lives.redis.strlen(f"tf:log:{id}") == 2 * (LOG_BYTES - 1)


def test_a_stream_keeps_the_last_ten_thousand_events(lives):
    id = lives.submit()
    claim = lives.claim(id)
    for _ in range(11):
        lives.store.report(claim, Report(events=[("metric", "{}")] * 1000))
    assert lives.redis.xlen(f"tf:events:{id}") == 10_000


def test_a_declined_job_comes_again_and_keeps_its_place(lives):
    id = lives.submit()
    lives.pop()
    lives.store.decline(id, 1)
    lives.wait(1)
    assert (lives.store.push_due(), lives.pop()) == (0, None)
    lives.wait(1)
    assert lives.store.push_due() == 1
    assert (lives.pop().attempt, lives.record(id).losses) == (1, 0)
    assert lives.redis.zscore("tf:queued:test", id) == START_MS
    assert lives.redis.xlen(f"tf:events:{id}") == 1


def test_declining_an_old_message_changes_nothing(lives):
    id = lives.submit()
    lives.claim(id)
    lives.store.decline(id, 1)
    assert lives.state(id) is JobState.RUNNING


def test_what_a_worker_holds_is_known_by_its_name(lives):
    one, two = lives.submit(), lives.submit()
    lives.claim(one)
    lives.claim(two)
    lives.claim(lives.submit(), worker="v@host")
    assert lives.store.held_by("w@host") == [one, two]
    assert sorted(lives.store.request_hand_back("w@host")) == [one, two]


def test_a_hand_back_requeues_at_once_and_counts_no_loss(lives):
    id = lives.submit()
    lives.pop()
    assert lives.store.hand_back(lives.claim(id)) is JobState.QUEUED
    assert (lives.pop().attempt, lives.record(id).losses) == (2, 0)


def test_a_handed_back_job_can_be_cancelled(lives):
    id = lives.submit()
    lives.store.hand_back(lives.claim(id))
    assert lives.store.cancel(id) is JobState.CANCELLED


def test_a_cancelled_job_that_is_handed_back_ends_cancelled(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.cancel(id)
    assert lives.store.hand_back(claim) is JobState.CANCELLED


def test_cancelling_a_running_job_twice_keeps_the_first_time(lives):
    id = lives.submit()
    lives.claim(id)
    assert lives.store.cancel(id) is JobState.RUNNING
    lives.wait(3)
    lives.store.cancel(id)
    assert lives.record(id).cancel_requested_ms == START_MS


def test_a_finished_job_is_not_cancelled(lives):
    id = lives.submit()
    lives.end(id)
    with pytest.raises(Conflict, match="is succeeded already"):
        lives.store.cancel(id)


def test_waiting_time_is_counted_once_over_several_claims(lives):
    id = lives.submit()
    lives.wait(2)
    lives.store.hand_back(lives.claim(id))
    lives.wait(3)
    lives.claim(id)
    counters = lives.redis.hgetall("tf:counters")
    assert counters["wait_ms|test|test.noop"] == "5000"
    assert (counters["wait|test|test.noop|2.5"], counters["wait|test|test.noop|5"]) == ("1", "1")
    assert lives.record(id).wait_ms == 3000


@pytest.mark.parametrize(
    ("stop", "counted"),
    [
        pytest.param(lambda store, claim: store.lose(claim.job_id, 1), "lost|test.noop|process_died", id="died"),
        pytest.param(lambda store, claim: store.hand_back(claim), "handed_back|test.noop", id="handed-back"),
        pytest.param(
            lambda store, claim: store.retry_later(claim, "busy", "later"), "retried|test.noop|busy", id="retryable"
        ),
    ],
)
def test_why_an_attempt_ended_without_an_outcome_is_counted(lives, stop, counted):
    id = lives.submit()
    stop(lives.store, lives.claim(id))
    assert lives.redis.hget("tf:counters", counted) == "1"


def test_an_attempt_killed_while_it_handed_back_counts_as_stopped_and_not_as_a_loss(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.request_hand_back("w@host")
    lives.store.lose(id, claim.attempt)
    assert lives.redis.hget("tf:counters", "lost|test.noop|stopped") == "1"
    assert lives.record(id).losses == 0


def test_a_traced_jobs_messages_carry_the_trace_of_its_request_through_every_attempt(lives):
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    template = f"{TEMPLATE} TENFOLD_TRACE"
    id = lives.submit(message=template, traceparent=header)
    first = lives.redis.lindex("test:3", 0)
    lives.store.hand_back(lives.claim(id))
    assert header in first
    assert header in lives.redis.lindex("test:3", 0)
