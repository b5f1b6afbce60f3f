"""Deleting a job, and letting a record go whose files stay."""

import pytest

from shared.jobs.errors import Conflict, NotFound
from shared.jobs.states import JobState
from shared.jobs.store import Query, Submission
from tests.unit.jobs.lives import BY, new_job
from tests.unit.jobs.store_world import Snapshot

SHA = "ab" * 32


def test_a_deleted_job_leaves_nothing_but_the_note_to_look_for_its_files(lives):
    keyed = Submission("ann", idempotency_key="k")
    id = lives.submit(keyed, labels={"a": "b"}, params=f'{{"x":"job:{"0" * 26}/y"}}', references=(f"job:{'0' * 26}",))
    lives.end(id)
    lives.store.forget(id, with_files=True)
    left = {name for name in Snapshot(lives.redis).keys if id in name or name.startswith(("ix:", "uses:", "idem:"))}
    assert left == set()
    assert list(lives.redis.zrange("tf:garbage", 0, -1)) == [f"jobs/{id}"]


@pytest.mark.parametrize("state", [JobState.BLOCKED, JobState.QUEUED, JobState.RUNNING])
def test_an_unfinished_job_is_not_deleted(lives, state):
    id = lives.submit(awaited=(lives.submit(),)) if state is JobState.BLOCKED else lives.submit()
    if state is JobState.RUNNING:
        lives.claim(id)
    with pytest.raises(Conflict, match=f"is {state}: cancel it first"):
        lives.store.forget(id, with_files=True)


def user_of(lives, id):
    return lives.submit(awaited=(id,), params=f'{{"source":"job:{id}/walk.json"}}', references=(f"job:{id}",))


def test_a_job_that_an_unfinished_one_needs_is_not_deleted(lives):
    id = lives.submit()
    lives.end(id)
    user = user_of(lives, id)
    with pytest.raises(Conflict, match=f"needed by the unfinished job {user}"):
        lives.store.forget(id, with_files=True)
    lives.end(user)
    lives.store.forget(id, with_files=True)


def test_a_retried_job_keeps_what_it_needs_from_being_deleted(lives):
    id = lives.submit()
    lives.end(id)
    user = user_of(lives, id)
    lives.end(user, JobState.FAILED)
    lives.retry(user)
    with pytest.raises(Conflict):
        lives.store.forget(id, with_files=True)


def test_a_job_past_its_days_that_an_unfinished_one_needs_is_not_deleted(lives):
    id = lives.submit()
    lives.end(id)
    settle(lives, id)
    lives.store.forget(id, with_files=False)
    lives.submit(params=f'{{"source":"job:{id}/walk.json"}}', references=(f"job:{id}",))  # its files are still there
    with pytest.raises(Conflict, match="needed by the unfinished"):
        lives.store.forget(id, with_files=True)


def settle(lives, id):
    """Its files are in order."""
    record = lives.record(id)
    lives.store.settle(id, str(record.attempt), str(record.finished_ms))
    lives.redis.zrem("tf:untidy", id)


@pytest.mark.parametrize("note", ["uncommitted", "untidy"])
def test_a_record_stays_until_its_files_are_in_order(lives, note):
    id = lives.submit()
    lives.end(id)
    lives.redis.delete("tf:untidy" if note == "uncommitted" else "tf:uncommitted")
    with pytest.raises(Conflict, match="put in order"):
        lives.store.forget(id, with_files=False)


def test_a_record_let_go_keeps_its_files_and_its_key(lives):
    keyed = Submission("ann", idempotency_key="k")
    id = lives.submit(keyed)
    lives.end(id)
    settle(lives, id)
    lives.store.forget(id, with_files=False)
    assert lives.submitted(keyed)[:3] == (id, (), False)
    assert not lives.redis.exists("tf:garbage")


def test_a_sweep_goes_with_its_last_job(lives):
    sweep = lives.store.submit_sweep([new_job()] * 2, {"kind": "test.noop"}, BY)
    for id in sweep.jobs:
        lives.end(id)
    lives.store.forget(sweep.jobs[0], with_files=True)
    assert lives.redis.exists(f"tf:sweep:{sweep.id}")
    lives.store.forget(sweep.jobs[1], with_files=True)
    assert not lives.redis.exists(f"tf:sweep:{sweep.id}")
    assert f"sweeps/{sweep.id}.json" in lives.redis.zrange("tf:garbage", 0, -1)


def test_forgetting_twice_is_not_found(lives):
    id = lives.submit()
    lives.end(id)
    lives.store.forget(id, with_files=True)
    with pytest.raises(NotFound):
        lives.store.forget(id, with_files=True)
    assert lives.store.find(Query()).items == []
