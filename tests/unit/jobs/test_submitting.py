"""Submitting: one atomic step, the message included."""

import pytest
import redis

from shared.jobs import submissions
from shared.jobs.errors import BadRequest, NotFound, QuotaExceeded, UnknownReference
from shared.jobs.states import JobState
from shared.jobs.store import Submission
from tests.unit.jobs.lives import BY, new_job
from tests.unit.jobs.store_world import CLOCK, START_MS, Fault

KEYED = Submission("ann", idempotency_key="k", fingerprint="body")


def test_a_submit_writes_the_record_and_pushes_its_message(lives):
    id = lives.submit(name="first", labels={"a": "b"}, timeout_s=2.5, params='{"x":[]}')
    record, message = lives.record(id), lives.pop()
    assert (record.state, record.attempt, record.losses, record.created_ms) == (JobState.QUEUED, 0, 0, START_MS)
    assert (record.name, record.labels, record.timeout_ms, record.params) == ("first", '{"a": "b"}', 2500, '{"x":[]}')
    assert (message.job, message.attempt, message.publish) == (id, 1, 1)


@pytest.mark.parametrize("params", ['{"a":[],"b":0.12345678901234568,"c":9007199254740993}', '{"t":"%1 %% \\u0000"}'])
def test_params_come_back_byte_for_byte(lives, params):
    assert lives.record(lives.submit(params=params)).params == params


def test_messages_of_one_list_have_rising_publish_numbers(lives):
    for _ in range(3):
        lives.submit()
    assert [lives.pop().publish for _ in range(3)] == [1, 2, 3]


def test_ids_rise_even_when_the_clock_steps_back(lives):
    ids = [lives.submit()]
    for step in (0, 0, -5000, 0, 3, 10_000):
        lives.wait(step)
        ids.append(lives.submit())
    assert ids == sorted(set(ids))
    assert all(len(id) == 26 for id in ids)


def test_ids_rise_through_a_millisecond_with_more_than_32768_of_them(lives):
    lives.redis.hset("tf:clock", mapping={"ms": START_MS, "count": 32766})
    ids = [lives.submit() for _ in range(4)]
    assert ids == sorted(set(ids))
    assert ids[0][:10] != ids[-1][:10]


def test_a_key_brings_the_same_job_back_for_a_day(lives):
    first = lives.submitted(KEYED)
    again = lives.submitted(KEYED)
    assert (first.created, again.created, again.id) == (True, False, first.id)
    assert 0 < lives.redis.pttl("tf:idem:ann:k") <= submissions.IDEMPOTENCY_MS
    assert lives.submitted(Submission("ben", idempotency_key="k", fingerprint="body")).created


def test_a_key_with_another_body_is_refused(lives):
    lives.submit(KEYED)
    with pytest.raises(BadRequest, match="another body") as refusal:
        lives.submit(Submission("ann", idempotency_key="k", fingerprint="other"))
    assert refusal.value.errors[0]["type"] == "idempotency_key_reused"


def test_a_deleted_jobs_key_is_free(lives):
    id = lives.submit(KEYED)
    lives.end(id)
    lives.store.forget(id, with_files=True)
    assert lives.submitted(KEYED).created


def test_deleting_a_job_leaves_a_key_alone_that_has_passed_to_another(lives):
    old = lives.submit(KEYED)
    lives.end(old)
    lives.redis.delete("tf:idem:ann:k")  # its 24 hours are over
    new = lives.submit(KEYED)
    lives.store.forget(old, with_files=True)
    assert lives.submitted(KEYED).id == new


def test_a_submit_whose_connection_broke_is_sent_again_and_written_once(lives):
    lives.redis.fault = Fault(0, "twice")
    submitted = lives.submitted()
    assert submitted.created
    assert list(lives.check().jobs) == [submitted.id]
    assert lives.redis.llen("test:3") == 1


def test_a_sweep_whose_connection_broke_is_sent_again_and_written_once(lives):
    lives.redis.fault = Fault(0, "twice")
    submitted = lives.store.submit_sweep([new_job()] * 3, {"kind": "test.noop"}, BY)
    assert submitted.created
    assert submitted.jobs == tuple(sorted(lives.check().jobs))


def test_nothing_is_written_when_the_connection_breaks_before_the_script(lives):
    lives.redis.fault = Fault(0, "before")
    with pytest.raises(redis.ConnectionError):
        lives.submit()
    assert set(lives.check().keys) == {CLOCK}


def test_unfinished_jobs_of_an_owner_are_capped(lives):
    by = Submission("ann", max_unfinished=2)
    first = lives.submit(by)
    lives.submit(by)
    with pytest.raises(QuotaExceeded, match="2 unfinished"):
        lives.submit(by)
    lives.end(first)
    lives.submit(by)


def test_a_refused_submission_leaves_nothing(lives):
    with pytest.raises(QuotaExceeded):
        lives.submit(Submission("ann", max_unfinished=0, idempotency_key="k"))
    assert set(lives.check().keys) == {CLOCK}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_reference_to_a_job_that_did_not_succeed_is_refused(lives, state):
    needed = lives.submit()
    lives.end(needed, state)
    with pytest.raises(UnknownReference, match=f"{needed} is {state}"):
        lives.submit(awaited=(needed,))


def test_a_reference_to_a_job_that_is_gone_is_refused(lives):
    with pytest.raises(UnknownReference, match="is unknown"):
        lives.submit(awaited=("01HF7YAT00001T61MNBTD39MPC",))


def test_a_reference_to_an_upload_that_was_dropped_is_refused(lives):
    with pytest.raises(UnknownReference, match="upload it again"):
        lives.submit(references=("file:" + "0" * 64,))


def test_a_sweep_is_written_whole_or_not_at_all(lives):
    jobs = [new_job(), new_job(awaited=("01HF7YAT00001T61MNBTD39MPC",))]
    with pytest.raises(UnknownReference):
        lives.store.submit_sweep(jobs, {"kind": "test.noop"}, BY)
    assert not lives.check().jobs


def test_a_sweeps_key_brings_the_sweep_back_and_is_free_when_its_jobs_are_gone(lives):
    jobs = [new_job()] * 2
    sweep = lives.store.submit_sweep(jobs, {"kind": "test.noop"}, KEYED)
    assert lives.store.submit_sweep(jobs, {"kind": "test.noop"}, KEYED).id == sweep.id
    for id in sweep.jobs:
        lives.end(id)
        lives.store.forget(id, with_files=True)
    assert lives.store.submit_sweep(jobs, {"kind": "test.noop"}, KEYED).created


def test_a_sweep_with_too_many_bytes_of_params_is_refused(lives, monkeypatch):
    monkeypatch.setattr(submissions, "SWEEP_BYTES", 2**20)
    with pytest.raises(BadRequest, match="2 MiB together, more than 1: upload what they share"):
        lives.store.submit_sweep([new_job(params="x" * 2**20)] * 2, {"kind": "test.noop"}, BY)


def test_a_thousand_jobs_are_one_sweep(lives):
    sweep = lives.store.submit_sweep([new_job(labels={"n": "1"})] * 1000, {"kind": "test.noop"}, BY)
    assert len(set(sweep.jobs)) == lives.redis.llen("test:3") == 1000


def test_an_unknown_job_is_not_found(lives):
    with pytest.raises(NotFound, match="there is no job X"):
        lives.store.get("X")
