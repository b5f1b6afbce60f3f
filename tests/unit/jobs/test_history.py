"""committed.json: written once it is true, read when Redis forgot, and back into Redis."""

import json

import pytest

from shared.jobs.errors import NotFound
from shared.jobs.history import read_committed, reindex, write_committed
from shared.jobs.layout import committed_key, job_folder, log_key
from shared.jobs.states import JobState
from shared.jobs.store import Outcome, Query, Report
from shared.jobs.sweeps import Sweeps
from tests.unit.jobs.lives import BY, new_job

ABOUT = {"kind": "test.noop", "name": "both", "labels": '{"s":"1"}', "grid": '{"x":[1,2]}', "seeds": "[7]"}


def written(lives, artifacts, **fields):
    id = lives.submit(labels={"of": "test"}, name="n", params='{"text":"ü","sources":[]}')
    lives.end(id, **fields)
    assert write_committed(id, lives.store, artifacts)
    return id


def forgotten(lives):
    """Redis lost everything; the clock goes on."""
    ms = lives.redis.get("test:clock_ms")
    lives.redis.flushdb()
    lives.redis.set("test:clock_ms", ms)


def test_a_finished_record_is_written_and_struck_off_the_list(lives, artifacts):
    id = written(lives, artifacts, result='{"a":[]}')
    assert lives.store.lacking_history() == []
    kept = json.loads(artifacts.get_bytes(committed_key(id)))
    assert (kept["state"], kept["result"], kept["prefix"]) == ("succeeded", '{"a":[]}', lives.record(id).prefix)
    assert not {"claim", "pid", "template", "idem"} & set(kept)


def test_the_log_of_a_job_that_ended_without_a_worker_is_kept(lives, artifacts):
    id = lives.submit(max_attempts=1)
    claim = lives.claim(id)
    lives.store.report(claim, Report(log="half-way\n"))
    lives.store.lose(id, 1)
    assert write_committed(id, lives.store, artifacts)
    assert artifacts.get_bytes(log_key(id)) == b"half-way\n"


def test_the_log_that_a_worker_put_among_the_artifacts_is_not_kept_twice(lives, artifacts):
    id = lives.submit()
    claim = lives.claim(id)
    lives.store.report(claim, Report(log="all of it\n"))
    lives.store.commit(claim, Outcome(JobState.SUCCEEDED, {"artifacts": '[{"name":"log.txt"}]', "result": "{}"}))
    assert write_committed(id, lives.store, artifacts)
    assert not artifacts.exists(log_key(id))


def test_an_unfinished_record_is_not_written(lives, artifacts):
    id = lives.submit()
    assert not write_committed(id, lives.store, artifacts)
    assert not artifacts.exists(committed_key(id))


def test_a_job_that_redis_forgot_is_read_from_its_file(lives, artifacts):
    id = written(lives, artifacts)
    before = lives.record(id)
    forgotten(lives)
    assert read_committed(id, artifacts) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "x"}', b'{"state": "odd"}'])
def test_a_damaged_file_is_no_job_and_stops_no_reindex(lives, artifacts, content):
    id = written(lives, artifacts)
    damaged = written(lives, artifacts)
    artifacts.put_bytes(committed_key(damaged), content)
    with pytest.raises(NotFound):
        read_committed(damaged, artifacts)
    forgotten(lives)
    assert reindex(lives.store, artifacts) == (1, 1)
    assert lives.state(id) is JobState.SUCCEEDED


def test_reindex_rebuilds_records_indexes_and_references(lives, artifacts):
    id = written(lives, artifacts)
    user = lives.submit(params=f'{{"source":"job:{id}/walk.json","text":"job: none"}}', references=(f"job:{id}",))
    lives.end(user, JobState.FAILED)
    write_committed(user, lives.store, artifacts)
    before = lives.record(id)
    forgotten(lives)
    assert reindex(lives.store, artifacts) == (2, 0)
    assert lives.record(id) == before
    found = lives.store.find(Query("test.noop", JobState.SUCCEEDED, "ann", (("of", "test"),)))
    assert [record.id for record in found.items] == [id]
    assert lives.redis.smembers(f"tf:uses:job:{id}") == {user}
    assert reindex(lives.store, artifacts) == (0, 2)
    for name in (id, user):  # their streams are gone: nothing to check the life by
        lives.redis.sadd("tf:uncommitted", name)
        lives.store.forget(name, with_files=True)


def test_reindex_rebuilds_a_sweep_with_all_it_says_of_itself(lives, artifacts):
    sweep = lives.store.submit_sweep([new_job()] * 3, ABOUT, BY)
    for id in sweep.jobs:
        lives.end(id)
        write_committed(id, lives.store, artifacts)
    before = Sweeps(lives.store).find(sweep.id)
    forgotten(lives)
    reindex(lives.store, artifacts)
    assert Sweeps(lives.store).find(sweep.id) == before
    assert Sweeps(lives.store).jobs(sweep.id) == list(sweep.jobs)
    assert Sweeps(lives.store).page(10, None) == ([sweep.id], None)
    forgotten(lives)


def test_a_failed_job_restored_without_its_checkpoint_starts_from_zero(lives, artifacts):
    id = lives.submit()
    claim = lives.claim(id)
    pointer = json.dumps({"folder": f"{claim.prefix}/.checkpoint-1"})
    lives.store.report(claim, Report({"checkpoint": pointer}))
    lives.store.lose(id, 1)
    lives.store.cancel(id)
    write_committed(id, lives.store, artifacts)
    forgotten(lives)
    reindex(lives.store, artifacts)
    assert lives.record(id).checkpoint is None
    forgotten(lives)
    artifacts.put_bytes(f"{job_folder(id)}/{claim.prefix}/.checkpoint-1/.state.json", b"{}")
    reindex(lives.store, artifacts)
    assert lives.record(id).checkpoint == pointer
    forgotten(lives)


def test_records_past_their_days_are_left_to_their_files(lives, artifacts):
    id = written(lives, artifacts)
    forgotten(lives)
    lives.wait(86_401)
    assert reindex(lives.store, artifacts, keep_days=1) == (0, 1)
    assert read_committed(id, artifacts).id == id


# Races ----------------------------------------------------------------------------------------------------------------


class Interrupted:
    """An artifact store in which something happens while committed.json is being written."""

    def __init__(self, artifacts, meanwhile):
        self._artifacts, self._meanwhile = artifacts, meanwhile

    def put_bytes(self, key, data):
        self._meanwhile()
        self._artifacts.put_bytes(key, data)

    def __getattr__(self, name):
        return getattr(self._artifacts, name)


def test_a_job_deleted_while_its_history_is_written_stays_deleted(lives, artifacts):
    id = lives.submit()
    lives.end(id)

    def delete():
        lives.store.forget(id, with_files=True)
        artifacts.delete(job_folder(id))

    assert not write_committed(id, lives.store, Interrupted(artifacts, delete))
    assert artifacts.folders("jobs") == []
    with pytest.raises(NotFound):
        read_committed(id, artifacts)


def test_a_deleted_job_is_not_brought_back_by_a_reindex(lives, artifacts):
    id = written(lives, artifacts)
    lives.store.forget(id, with_files=True)
    assert reindex(lives.store, artifacts) == (0, 1)
    assert lives.store.state(id) is None


def test_a_job_retried_and_finished_while_its_history_is_written_is_written_again(lives, artifacts):
    id = lives.submit()
    lives.end(id, JobState.FAILED)

    def retry():
        lives.wait(1)
        lives.retry(id)
        lives.end(id)
        write_committed(id, lives.store, artifacts)

    assert not write_committed(id, lives.store, Interrupted(artifacts, retry))
    assert read_committed(id, artifacts).state is JobState.FAILED  # the slow writer's, for now
    assert [name for name, _ in lives.store.lacking_history()] == [id]
    assert write_committed(id, lives.store, artifacts)
    assert read_committed(id, artifacts).state is JobState.SUCCEEDED


def test_a_job_retried_while_its_history_is_written_lacks_none_while_it_runs(lives, artifacts):
    id = lives.submit()
    lives.end(id, JobState.FAILED)
    assert not write_committed(id, lives.store, Interrupted(artifacts, lambda: lives.retry(id)))
    assert lives.store.lacking_history() == []
