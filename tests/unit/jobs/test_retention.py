"""What may be thrown away, and what may not."""

import hashlib
import json
import os
import time

import pytest

from shared.artifacts import ArtifactStore
from shared.jobs.files import UploadedFile, UploadedFiles
from shared.jobs.history import read_committed, write_committed
from shared.jobs.layout import job_folder
from shared.jobs.retention import DAY_S, Retention
from shared.jobs.states import JobState
from shared.jobs.store import Claim, Outcome, Report

KEEP_DAYS = 2.0


@pytest.fixture
def retention(lives, artifacts):
    return Retention(lives.store, artifacts, KEEP_DAYS)


def put(artifacts, claim, *names):
    for name in names:
        artifacts.put_bytes(f"{job_folder(claim.job_id)}/{claim.prefix}/{name}", b"12345")


def kept(artifacts, id):
    """Names of a job's files, without their prefixes' tokens."""
    folder = job_folder(id)
    return sorted(blob.key[len(folder) + 1 :] for blob in artifacts.blobs(folder))


def checkpoint(lives, artifacts, claim, number, journals=()):
    put(artifacts, claim, f".checkpoint-{number}/.state.json", f".journal-{number}/curves")
    parts = [f"{claim.prefix}/.journal-{number}/curves", *journals]
    pointer = {"folder": f"{claim.prefix}/.checkpoint-{number}", "journals": {"curves": {"parts": parts}}}
    lives.store.report(claim, Report({"checkpoint": json.dumps(pointer)}))
    return parts


def lost_twice(lives, artifacts):
    """A job on its third attempt; each had a checkpoint and a file."""
    id = lives.submit(max_attempts=9)
    claims, journals = [], ()
    for attempt in (1, 2):
        claims.append(lives.claim(id))
        put(artifacts, claims[-1], "walk.json")
        journals = checkpoint(lives, artifacts, claims[-1], 1, journals[:1])
        lives.store.lose(id, attempt)
    claims.append(lives.claim(id))
    put(artifacts, claims[-1], "walk.json")
    return id, claims


def test_nothing_is_cleared_within_a_minute_of_the_end(lives, artifacts, retention):
    id, _ = lost_twice(lives, artifacts)
    lives.store.commit(lives_claim(lives, id), succeeded())
    before = kept(artifacts, id)
    lives.wait(59)
    assert retention.clear_garbage() == {}
    assert kept(artifacts, id) == before


def lives_claim(lives, id):
    record = lives.record(id)
    return Claim(id, record.attempt, record.claim)


def succeeded():
    return Outcome(JobState.SUCCEEDED, {"result": "{}"})


def test_after_success_only_the_committed_prefix_stays_without_checkpoints(lives, artifacts, retention):
    id, claims = lost_twice(lives, artifacts)
    checkpoint(lives, artifacts, claims[-1], 1)
    lives.store.commit(claims[-1], succeeded())
    write_committed(id, lives.store, artifacts)
    lives.wait(61)
    retention.clear_garbage()
    assert kept(artifacts, id) == [f"{claims[-1].prefix}/walk.json", "committed.json"]


def test_what_a_worker_without_a_lease_wrote_late_is_cleared_too(lives, artifacts, retention):
    id, claims = lost_twice(lives, artifacts)
    lives.store.commit(claims[-1], succeeded())
    lives.wait(50)
    put(artifacts, claims[0], "late.json")
    lives.wait(11)
    retention.clear_garbage()
    assert kept(artifacts, id) == [f"{claims[-1].prefix}/walk.json"]


def test_while_a_job_runs_its_checkpoint_and_what_that_refers_to_stay(lives, artifacts, retention):
    id, claims = lost_twice(lives, artifacts)
    lives.wait(61)
    retention.clear_garbage()
    first, second, third = (claim.prefix for claim in claims)
    assert f"{second}/.checkpoint-1/.state.json" in kept(artifacts, id)
    assert f"{first}/.journal-1/curves" in kept(artifacts, id), "a part of the second's journal"
    assert f"{third}/walk.json" in kept(artifacts, id)


def test_a_prefix_that_the_checkpoint_has_left_behind_goes_while_the_job_runs(lives, artifacts, retention):
    id, claims = lost_twice(lives, artifacts)
    checkpoint(lives, artifacts, claims[2], 1)
    lives.wait(61)
    retention.clear_garbage()
    assert {name.split("/")[0] for name in kept(artifacts, id)} == {claims[2].prefix}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_may_be_retried_keeps_its_checkpoint(lives, artifacts, retention, state):
    id = lives.submit()
    claim = lives.claim(id)
    checkpoint(lives, artifacts, claim, 1)
    put(artifacts, claim, "walk.json")
    lives.store.commit(claim, Outcome(state, {}, "error" if state is JobState.FAILED else ""))
    before = kept(artifacts, id)
    lives.wait(61)
    retention.clear_garbage()
    assert kept(artifacts, id) == before


def test_files_of_a_deleted_job_are_looked_for_once_more_after_ten_minutes(lives, artifacts, retention):
    id = lives.submit()
    claim = lives.end(id)
    lives.store.forget(id, with_files=True)
    put(artifacts, claim, "late.json")
    lives.wait(601)
    retention.clear_garbage()
    assert artifacts.folders("jobs") == []
    assert lives.redis.zcard("tf:garbage") == 0


def test_one_folder_that_resists_keeps_no_other_from_being_cleared(lives, artifacts, retention, monkeypatch):
    ids = [lives.submit() for _ in range(3)]
    for id in ids:
        put(artifacts, lives.end(id), "walk.json")
        lives.store.forget(id, with_files=True)
    delete = ArtifactStore.delete

    def stubborn(self, key):
        if ids[0] in key:
            raise PermissionError(key)
        delete(self, key)

    lives.wait(601)
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "delete", stubborn)
        assert list(retention.clear_garbage()) == [f"jobs/{ids[0]}"]
        assert artifacts.folders("jobs") == [ids[0]]
        assert retention.clear_garbage() == {}, "put off for a minute"
    lives.wait(61)
    assert retention.clear_garbage() == {}
    assert artifacts.folders("jobs") == []


def test_what_was_put_off_meanwhile_is_not_struck_off(lives):
    lives.redis.zadd("tf:untidy", {"id": 5})
    (entry,) = lives.store.due("untidy", 10)
    lives.redis.zadd("tf:untidy", {"id": 9})
    lives.store.strike("untidy", entry)
    assert lives.redis.zscore("tf:untidy", "id") == 9
    lives.redis.delete("tf:untidy")


# Old records ----------------------------------------------------------------------------------------------------------


def settled(lives, artifacts, retention, state=JobState.SUCCEEDED):
    id = lives.submit()
    claim = lives.claim(id)
    checkpoint(lives, artifacts, claim, 1)
    put(artifacts, claim, "walk.json")
    error = "error" if state is JobState.FAILED else ""
    lives.store.commit(claim, Outcome(state, {"result": "{}"}, error))
    write_committed(id, lives.store, artifacts)
    return id, claim


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_record_past_its_days_goes_and_its_artifacts_stay(lives, artifacts, retention, state):
    id, claim = settled(lives, artifacts, retention, state)
    lives.wait(KEEP_DAYS * DAY_S - 1)
    retention.clear_garbage()
    retention.clear_old()
    assert lives.state(id) is state
    lives.wait(1)
    retention.clear_old()
    assert lives.store.state(id) is None
    assert read_committed(id, artifacts).state is state
    assert kept(artifacts, id) == [f"{claim.prefix}/walk.json", "committed.json"], "no checkpoint: nobody will retry it"


def test_a_record_without_its_file_stays(lives, artifacts, retention):
    id = lives.submit()
    lives.end(id)
    lives.wait(KEEP_DAYS * DAY_S)
    retention.clear_garbage()
    retention.clear_old()
    assert lives.state(id) is JobState.SUCCEEDED


def test_a_record_that_an_unfinished_job_needs_stays_and_keeps_no_other_from_going(lives, artifacts, retention):
    needed, _ = settled(lives, artifacts, retention)
    other, _ = settled(lives, artifacts, retention)
    lives.submit(awaited=(needed,), params=f'{{"s":"job:{needed}/walk.json"}}', references=(f"job:{needed}",))
    lives.wait(KEEP_DAYS * DAY_S)
    retention.clear_garbage()
    retention.clear_old()
    assert (lives.store.state(needed), lives.store.state(other)) == (JobState.SUCCEEDED, None)


# gc -------------------------------------------------------------------------------------------------------------------


def aged(artifacts, *keys):
    for key in keys:
        path = artifacts.local_path(key)
        for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.utime(file, (time.time() - DAY_S - 1,) * 2)


def test_gc_removes_folders_that_nobody_knows_a_day_after_they_were_written(lives, artifacts, retention):
    artifacts.put_bytes("jobs/UNKNOWN/1-a/x", b"12345")
    artifacts.put_bytes("jobs/FRESH/1-a/x", b"12345")
    aged(artifacts, "jobs/UNKNOWN")
    expected = (["jobs/UNKNOWN"], 5)
    assert (lambda r: (r.keys, r.bytes))(retention.collect(dry_run=True)) == expected
    assert artifacts.folders("jobs") == ["FRESH", "UNKNOWN"]
    assert (lambda r: (r.keys, r.bytes))(retention.collect(dry_run=False)) == expected
    assert artifacts.folders("jobs") == ["FRESH"]


def test_gc_keeps_jobs_that_only_their_files_tell_of(lives, artifacts, retention):
    id, claim = settled(lives, artifacts, retention)
    lives.redis.flushdb()
    lives.redis.set("test:clock_ms", 10**12)
    aged(artifacts, job_folder(id))
    retention.collect(dry_run=False)
    assert kept(artifacts, id) == [f"{claim.prefix}/walk.json", "committed.json"]


def test_gc_removes_files_cut_short_by_a_crash(lives, artifacts, retention):
    id, claim = settled(lives, artifacts, retention)
    old = f"{job_folder(id)}/{claim.prefix}/.walk.json.ab.part"
    artifacts.put_bytes(old, b"1")
    artifacts.put_bytes("files/.new.cd.part", b"1")
    aged(artifacts, old)
    assert old in retention.collect(dry_run=False).keys
    assert not artifacts.exists(old)
    assert artifacts.exists("files/.new.cd.part")


# Uploads --------------------------------------------------------------------------------------------------------------


def test_an_upload_nobody_refers_to_goes_after_seven_days(lives, artifacts, retention, tmp_path):
    used, unused = upload(lives, artifacts, tmp_path, b"a"), upload(lives, artifacts, tmp_path, b"b")
    lives.submit(params=f'{{"f":"{used.ref}"}}', references=(used.ref,))
    lives.wait(7 * DAY_S - 1)
    retention.clear_old()
    assert artifacts.exists(f"files/{unused.sha256}")
    lives.wait(1)
    assert f"files/{unused.sha256}" in retention.collect(dry_run=True).keys
    retention.clear_old()
    assert artifacts.folders("files") == [used.sha256]


def upload(lives, artifacts, tmp_path, data):
    path = tmp_path / "upload"
    path.write_bytes(data)
    file = UploadedFile(hashlib.sha256(data).hexdigest(), len(data), "text/plain")
    UploadedFiles(lives.store, artifacts).add(path, file)
    return file
