"""The reconciler's rounds: what was lost comes back, what is missing is written, and nothing too early."""

import threading
from types import SimpleNamespace

import pytest
import redis

from services.reconciler import loop
from services.reconciler.loop import Contact, Reconciler
from shared.artifacts import ArtifactStore
from shared.jobs.errors import NotFound
from shared.jobs.history import read_committed
from shared.jobs.layout import committed_key, job_folder
from shared.jobs.states import JobState
from tests.unit.jobs.store_world import Fault

TTL_S = 1.0


class OwnClock:
    """This process's monotonic clock, turned together with Redis's or apart from it."""

    def __init__(self, lives):
        self._lives, self.now = lives, 1000.0

    def monotonic(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        self._lives.wait(seconds)


@pytest.fixture
def clock(lives, monkeypatch):
    clock = OwnClock(lives)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock.monotonic))
    info = lives.redis.info("server") | {"uptime_in_seconds": 100}  # this one may have started a moment ago
    monkeypatch.setattr(lives.redis, "info", lambda section: info)
    return clock


@pytest.fixture
def settled(reconciler, clock):
    """A reconciler that has been in touch for a TTL."""
    for _ in range(2):
        reconciler.round()
        clock.wait(TTL_S)
    return reconciler


def test_an_expired_lease_is_the_next_attempts(lives, settled, clock):
    id = lives.submit()
    lives.pop()
    lives.claim(id, ttl_s=TTL_S)
    settled.round()
    assert lives.state(id) is JobState.RUNNING
    clock.wait(TTL_S)
    settled.round()
    assert (lives.state(id), lives.record(id).losses, lives.pop().attempt) == (JobState.QUEUED, 1, 2)


def test_two_reconcilers_lose_a_job_once(lives, settled, artifacts, clock):
    id = lives.submit()
    lives.claim(id, ttl_s=TTL_S)
    other = Reconciler(lives.store, artifacts, settled.settings)
    other._contact = settled._contact
    clock.wait(TTL_S)
    threads = [threading.Thread(target=each.expire) for each in (settled, other) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lives.record(id).losses == 1


def test_a_message_that_is_gone_is_pushed_again_after_ten_seconds(lives, settled, clock):
    id = lives.submit()
    lives.pop()
    for _ in range(10):
        settled.round()
        assert lives.redis.llen("test:3") == 0
        clock.wait(1)
    settled.round()
    assert lives.pop().job == id


def test_a_pool_that_this_process_does_not_know_is_looked_after_too(lives, settled, clock):
    id = lives.submit(pool="elsewhere", queue="elsewhere:3")
    lives.pop("elsewhere:3")
    settled.round()
    clock.wait(10)
    settled.round()
    assert lives.pop("elsewhere:3").job == id
    lives.store.cancel(id)


def test_a_retried_job_is_pushed_when_its_time_has_come(lives, settled, clock):
    id = lives.submit()
    lives.pop()
    lives.store.retry_later(lives.claim(id), "retryable", "m")
    clock.wait(5)
    settled.round()
    assert lives.pop().attempt == 2


# When nothing may be expired ------------------------------------------------------------------------------------------


def test_nothing_is_expired_until_this_loop_was_in_touch_for_a_ttl(lives, reconciler, clock):
    id = lives.submit()
    lives.claim(id, ttl_s=TTL_S)
    clock.wait(TTL_S)
    reconciler.round()
    clock.wait(TTL_S / 2)
    reconciler.round()
    assert lives.state(id) is JobState.RUNNING
    clock.wait(TTL_S / 2)
    reconciler.round()
    assert lives.state(id) is JobState.QUEUED


def contact_after_a_ttl(lives, clock, ttl_s=TTL_S):
    contact = Contact(ttl_s)
    assert not contact.is_settled(lives.store)
    clock.wait(ttl_s)
    assert contact.is_settled(lives.store)
    return contact


def begins_anew(lives, clock, contact):
    assert not contact.is_settled(lives.store)
    clock.wait(TTL_S)
    assert contact.is_settled(lives.store)


def test_a_broken_connection_begins_the_wait_anew(lives, clock):
    contact = contact_after_a_ttl(lives, clock)
    contact.lost()
    begins_anew(lives, clock, contact)


def test_a_failed_round_begins_the_wait_anew(lives, settled, clock):
    assert settled._contact.is_settled(lives.store)
    lives.redis.fault = Fault(1, "before")
    with pytest.raises(redis.ConnectionError):
        settled.return_jobs()
    begins_anew(lives, clock, settled._contact)


def test_a_pause_of_this_process_begins_the_wait_anew(lives, clock):
    contact = contact_after_a_ttl(lives, clock)
    clock.wait(30)
    begins_anew(lives, clock, contact)


def test_a_machine_that_slept_begins_the_wait_anew(lives, clock):
    contact = contact_after_a_ttl(lives, clock)
    lives.wait(3600)  # Redis's clock went on, the monotonic one stood still
    begins_anew(lives, clock, contact)


def test_another_server_begins_the_wait_anew(lives, clock, monkeypatch):
    contact = contact_after_a_ttl(lives, clock)
    info = lives.redis.info("server")
    monkeypatch.setattr(lives.redis, "info", lambda section: info | {"run_id": "other"})
    begins_anew(lives, clock, contact)


def test_a_server_that_just_started_expires_nothing(lives, clock, monkeypatch):
    contact = contact_after_a_ttl(lives, clock)
    info = lives.redis.info("server")
    monkeypatch.setattr(lives.redis, "info", lambda section: info | {"uptime_in_seconds": 0})
    assert not contact.is_settled(lives.store)


def test_a_clock_that_steps_back_begins_nothing_anew(lives, clock):
    contact = contact_after_a_ttl(lives, clock)
    lives.wait(-3600)
    assert contact.is_settled(lives.store)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_missing_committed_json_is_written_two_seconds_after_the_end(lives, settled, artifacts, clock):
    id = lives.submit()
    lives.end(id)
    clock.wait(2)
    settled.round()
    assert not artifacts.exists(committed_key(id))
    clock.wait(0.001)
    settled.round()
    assert read_committed(id, artifacts).state is JobState.SUCCEEDED


def test_files_of_a_deleted_job_that_a_dead_gateway_left_are_removed(lives, settled, artifacts, clock):
    id = lives.submit()
    claim = lives.end(id)
    artifacts.put_bytes(f"{job_folder(id)}/{claim.prefix}/x", b"1")
    lives.store.forget(id, with_files=True)
    clock.wait(601)
    settled.round()
    assert artifacts.folders("jobs") == []


def test_a_record_past_its_days_is_served_from_its_files(lives, settled, artifacts, clock):
    id = lives.submit()
    lives.end(id)
    clock.wait(61)
    settled.round()
    clock.wait(2 * 86_400)
    settled.round()
    with pytest.raises(NotFound):
        lives.store.get(id)
    assert read_committed(id, artifacts).id == id


def test_an_artifact_store_that_is_down_keeps_no_job_from_being_returned(lives, settled, clock, monkeypatch):
    def down(self, key, data):
        raise PermissionError("read-only")

    monkeypatch.setattr(ArtifactStore, "put_bytes", down)
    done, id = lives.submit(), lives.submit()
    lives.end(done)
    lives.claim(id, ttl_s=TTL_S)
    clock.wait(3)
    settled.round()
    assert lives.state(id) is JobState.QUEUED
    assert [name for name, _ in lives.store.lacking_history()] == [done]


def test_the_loop_goes_on_until_told_to_stop(lives, reconciler, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_S", 0.01)
    id = lives.submit()
    lives.end(id)
    lives.wait(3)
    stop = threading.Event()
    running = threading.Thread(target=reconciler.run, args=(stop,))
    running.start()
    for _ in range(500):
        if not lives.store.lacking_history():
            break
        stop.wait(0.01)
    stop.set()
    running.join(10)
    assert not running.is_alive()
    assert not lives.store.lacking_history()
