"""How jobs end: commit, cancel, losses, timeouts, dependants; and how a person starts them again."""

import pytest

from shared.jobs.errors import Conflict, NotFound
from shared.jobs.states import JobState
from shared.jobs.store import Outcome, Report
from tests.unit.jobs.store_world import START_MS

FAILED = Outcome(JobState.FAILED, {"artifacts": '[{"name":"a"}]'}, "error", "ValueError: no", False)


def test_a_commit_publishes_state_and_result_and_drops_the_checkpoint(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.report(claim, Report({"checkpoint": "{}"}))
    lives.wait(4)
    fields = {"result": '{"x":1}', "artifacts": "[1]", "timings": "{}"}
    assert lives.store.commit(claim, Outcome(JobState.SUCCEEDED, fields)) is JobState.SUCCEEDED
    record = lives.record(id)
    assert (record.result, record.artifacts, record.checkpoint, record.claim) == ('{"x":1}', "[1]", None, None)
    assert (record.finished_ms, record.ran_ms) == (START_MS + 4000, 4000)
    assert 0 < lives.redis.ttl(f"tf:events:{id}") <= 86_400


def test_a_failure_keeps_its_artifacts_and_checkpoint_and_has_no_result(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.report(claim, Report({"checkpoint": '{"folder":"1-a/.checkpoint-1"}'}))
    lives.store.commit(claim, FAILED._replace(fields={**FAILED.fields, "result": "{}"}))
    record = lives.record(id)
    assert (record.error.type, record.error.message, record.error.retryable) == ("error", "ValueError: no", False)
    assert (record.result, record.artifacts) == (None, '[{"name":"a"}]')
    assert record.checkpoint is not None


@pytest.mark.parametrize("said", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_after_a_cancel_was_accepted_every_commit_is_cancelled(lives, said):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.cancel(id)
    assert lives.store.commit(claim, Outcome(said, {"result": "{}"}, "error")) is JobState.CANCELLED
    assert (lives.record(id).result, lives.record(id).error) == (None, None)


# Losses ---------------------------------------------------------------------------------------------------------------


def test_a_lost_job_is_queued_again_until_its_losses_are_spent(lives):
    id = lives.submit(max_attempts=2)
    for attempt, state in ((1, JobState.QUEUED), (2, JobState.FAILED)):
        lives.claim(id)
        assert lives.store.lose(id, attempt) is state
    record = lives.record(id)
    assert (record.error.type, record.error.retryable, record.losses) == ("worker_lost", True, 2)
    assert "lost 2 times (max_attempts 2)" in record.error.message


def test_a_job_is_lost_once(lives):
    id = lives.submit()
    lives.claim(id)
    assert lives.store.lose(id, 1) is JobState.QUEUED
    assert lives.store.lose(id, 1) is None
    assert lives.record(id).losses == 1


def test_losing_an_earlier_attempt_leaves_the_present_one_alone(lives):
    id = lives.submit()
    lives.claim(id)
    lives.store.lose(id, 1)
    lives.claim(id)
    assert lives.store.lose(id, 1) is None
    assert lives.state(id) is JobState.RUNNING


def test_a_worker_lost_while_handing_back_counts_no_loss(lives):
    id = lives.submit(max_attempts=1)
    lives.claim(id)
    lives.store.request_hand_back("w@host")
    assert lives.store.lose(id, 1) is JobState.QUEUED
    assert lives.record(id).losses == 0
    lives.claim(id)
    assert lives.store.lose(id, 2) is JobState.FAILED, "the request was the first attempt's"


def test_a_worker_lost_after_a_cancel_ends_the_job_cancelled(lives):
    id = lives.submit()
    lives.claim(id)
    lives.store.cancel(id)
    assert lives.store.lose(id, 1) is JobState.CANCELLED


def test_only_an_expired_lease_is_ended_by_the_reconciler(lives):
    id = lives.submit()
    claim = lives.claim(id)
    lives.wait(14.999)
    assert lives.store.expired() == []
    assert lives.store.lose(id, 1, only_expired=True) is None
    lives.wait(0.001)
    assert lives.store.expired() == [(id, 1)]
    lives.store.renew(claim, 15)  # between look and verdict
    assert lives.store.lose(id, 1, only_expired=True) is None
    lives.wait(15)
    assert lives.store.lose(id, 1, only_expired=True) is JobState.QUEUED


def test_a_clock_that_steps_back_keeps_a_lost_job_for_a_minute_at_most(lives):
    id = lives.submit()
    lives.claim(id)
    lives.wait(-3600)
    assert lives.store.expired(longest_s=60) == []
    lives.wait(60)
    assert lives.store.expired(longest_s=60) == [(id, 1)]


DELAYS = [5, 10, 20, 40, 80, 160, 300, 300]  # 5 s · 2ⁿ, at most 5 min


def test_retryable_errors_wait_longer_each_time(lives):
    id = lives.submit(max_attempts=len(DELAYS) + 1)
    lives.pop()
    for attempt, delay in enumerate(DELAYS, 1):
        assert lives.store.retry_later(lives.claim(id), "retryable", "endpoint down") is JobState.QUEUED
        lives.wait(delay - 0.001)
        assert (lives.store.push_due(), lives.pop()) == (0, None)
        lives.wait(0.001)
        assert lives.store.push_due() == 1
        assert lives.pop().attempt == attempt + 1
    assert lives.store.retry_later(lives.claim(id), "retryable", "endpoint down") is JobState.FAILED
    error = lives.record(id).error
    assert (error.type, error.message, error.retryable) == ("retryable", "endpoint down", True)


def test_the_wait_after_a_retryable_error_is_no_waiting_for_a_worker(lives):
    id = lives.submit()
    lives.store.retry_later(lives.claim(id), "retryable", "m")
    lives.wait(7)
    lives.store.push_due()
    lives.claim(id)
    assert lives.record(id).waited_ms == 2000


def test_a_delay_from_before_the_clock_stepped_back_is_cut(lives):
    id = lives.submit()
    lives.store.retry_later(lives.claim(id), "retryable", "m")
    lives.wait(-86_400)
    lives.store.push_due()
    lives.wait(300)
    assert lives.store.push_due() == 1


# Running time ---------------------------------------------------------------------------------------------------------


def test_running_time_is_summed_over_attempts(lives):
    id = lives.submit(timeout_s=10, max_attempts=5)
    claim = lives.claim(id)
    lives.wait(6)
    lives.store.hand_back(claim)
    lives.wait(100)
    claim = lives.claim(id)
    lives.wait(4)
    assert not lives.store.renew(claim, 15).overtime
    lives.wait(0.001)
    assert lives.store.renew(claim, 15).overtime
    lives.store.lose(id, 2)
    error = lives.record(id).error
    assert (error.type, error.retryable) == ("timeout", True)
    assert "timeout_s of 10 s" in error.message


def test_a_retry_after_a_timeout_has_its_time_anew(lives):
    id = lives.submit(timeout_s=1)
    lives.claim(id)
    lives.wait(2)
    lives.store.lose(id, 1)
    lives.retry(id)
    assert not lives.store.renew(lives.claim(id), 15).overtime


# Dependants -----------------------------------------------------------------------------------------------------------


def test_a_job_waits_for_every_job_it_needs(lives):
    one, two = lives.submit(), lives.submit()
    id = lives.submit(awaited=(one, two))
    assert (lives.state(id), lives.store.waiting_for(id)) == (JobState.BLOCKED, [one, two])
    lives.end(one)
    assert (lives.state(id), lives.store.waiting_for(id)) == (JobState.BLOCKED, [two])
    lives.end(two)
    assert lives.state(id) is JobState.QUEUED
    lives.claim(id)


def test_a_job_that_needs_a_finished_one_is_queued_at_once(lives):
    needed = lives.submit()
    lives.end(needed)
    assert lives.state(lives.submit(awaited=(needed,))) is JobState.QUEUED


@pytest.mark.parametrize(("state", "how"), [(JobState.FAILED, "failed"), (JobState.CANCELLED, "was cancelled")])
def test_what_needs_a_job_that_did_not_succeed_fails(lives, state, how):
    needed, other = lives.submit(), lives.submit()
    middle = lives.submit(awaited=(needed, other))
    last = lives.submit(awaited=(middle,))
    lives.end(needed, state)
    assert [lives.state(id) for id in (middle, last)] == [JobState.FAILED] * 2
    error = lives.record(middle).error
    assert (error.type, error.message) == ("dependency_failed", f"job {needed}, whose artifact this job needs, {how}")
    lives.end(other)
    assert lives.state(middle) is JobState.FAILED


def test_cancelling_a_blocked_job_frees_it_from_what_it_waited_for(lives):
    needed = lives.submit()
    id = lives.submit(awaited=(needed,))
    assert lives.store.cancel(id) is JobState.CANCELLED
    lives.end(needed)
    assert lives.state(id) is JobState.CANCELLED


def test_a_chain_of_thousands_ends_with_its_first(lives):
    first = last = lives.submit()
    for _ in range(5000):
        last = lives.submit(awaited=(last,))
    lives.end(first, JobState.FAILED)
    assert lives.state(last) is JobState.FAILED
    assert not lives.store.waiting_for(last)


def test_released_jobs_are_queued_in_the_order_they_were_submitted(lives):
    needed = lives.submit()
    lives.pop()
    ids = [lives.submit(awaited=(needed,)) for _ in range(20)]
    lives.end(needed)
    assert [lives.pop().job for _ in ids] == ids


# Retry by a person ----------------------------------------------------------------------------------------------------


def test_a_retry_goes_on_from_the_checkpoint_with_losses_forgotten(lives):
    id = lives.submit(max_attempts=1)
    lives.pop()
    claim = lives.claim(id)
    lives.store.report(claim, Report({"checkpoint": "{}"}))
    lives.store.retry_later(claim, "retryable", "m")
    assert lives.retry(id, "test:6") is JobState.QUEUED
    record = lives.record(id)
    assert (record.losses, record.attempt, record.error, record.finished_ms) == (0, 1, None, None)
    assert record.checkpoint == "{}"
    assert lives.pop("test:6").attempt == 2
    assert lives.redis.ttl(f"tf:events:{id}") == -1


def test_a_cancelled_job_that_is_retried_can_succeed(lives):
    id = lives.submit()
    lives.store.cancel(id)
    lives.retry(id)
    lives.end(id)
    assert lives.state(id) is JobState.SUCCEEDED


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED])
def test_only_failed_and_cancelled_jobs_are_retried(lives, state):
    id = lives.submit()
    if state is JobState.RUNNING:
        lives.claim(id)
    if state is JobState.SUCCEEDED:
        lives.end(id)
    with pytest.raises(Conflict, match=f"is {state}: only failed or cancelled"):
        lives.retry(id)


def test_a_job_whose_need_failed_is_retried_after_it_and_waits_again(lives):
    needed = lives.submit()
    id = lives.submit(awaited=(needed,))
    lives.end(needed, JobState.FAILED)
    with pytest.raises(Conflict, match=f"needs job {needed}"):
        lives.retry(id)
    lives.retry(needed)
    assert lives.retry(id) is JobState.BLOCKED
    lives.end(needed)
    assert lives.state(id) is JobState.QUEUED


def test_there_is_nothing_to_retry_or_cancel_in_an_unknown_job(lives):
    with pytest.raises(NotFound):
        lives.store.cancel("X")
    with pytest.raises(NotFound):
        lives.store.retry("X", "m", "test:3")


# Messages -------------------------------------------------------------------------------------------------------------


def test_a_message_that_left_its_list_unclaimed_is_pushed_again_after_ten_seconds(lives):
    id = lives.submit()
    lives.pop()
    assert lives.store.republish("test:3") == []
    lives.wait(9.999)
    assert lives.store.republish("test:3") == []
    lives.wait(0.001)
    assert lives.store.republish("test:3") == [id]
    message = lives.pop()
    assert (message.attempt, message.publish) == (1, 2)


def test_a_message_that_lies_in_its_list_is_left_there_however_long(lives):
    for _ in range(3):
        lives.submit()
    for _ in range(3):
        lives.wait(60)
        assert lives.store.republish("test:3") == []
    assert lives.redis.llen("test:3") == 3


def test_a_message_that_was_put_back_hides_no_missing_one(lives):
    first, second, third = (lives.submit() for _ in range(3))
    lives.pop(), lives.pop()  # the first two are gone …
    lives.store.republish("test:3")
    lives.wait(10)
    assert lives.store.republish("test:3") == [first, second]
    assert lives.redis.llen("test:3") == 3
    assert lives.pop().job == third


def test_each_list_is_looked_at_by_itself(lives):
    high = lives.submit(queue="test")
    lives.submit(queue="test:6")
    lives.pop("test")
    for _ in range(2):
        found = [id for queue in lives.store.lists() for id in lives.store.republish(queue)]
        lives.wait(10)
    assert found == [high]


def test_a_foreign_message_at_the_lists_end_is_waited_for(lives):
    lives.submit()
    lives.pop()
    lives.redis.rpush("test:3", '{"headers": {"task": "other"}}')
    lives.wait(60)
    assert lives.store.republish("test:3") == []
    lives.redis.rpop("test:3")


def test_a_delayed_job_is_not_taken_for_one_whose_message_is_gone(lives):
    id = lives.submit()
    lives.pop()
    lives.store.retry_later(lives.claim(id), "retryable", "m")
    lives.wait(60)
    assert lives.store.republish("test:3") == []
