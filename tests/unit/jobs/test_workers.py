"""Who is alive, and what an autoscaler needs to know."""

import pytest

from shared.jobs.workers import GpuMemory, WorkerList


@pytest.fixture
def workers(lives):
    return WorkerList(lives.store)


def test_an_idle_pool_wants_no_worker(workers):
    assert workers.status("test") == ("test", 0, 0, 0, 0, 0.0, 0)


def test_a_pools_load_is_counted_from_the_records(lives, workers):
    ids = [lives.submit() for _ in range(5)]
    workers.announce("test@one", "test", 2, 10)
    lives.claim(ids[1])
    lives.wait(4)
    status = workers.status("test")
    assert (status.waiting, status.running, status.slots, status.workers) == (4, 1, 2, 1)
    assert status.oldest_wait_s == 4.0
    assert status.desired_workers == 3  # ceil(5 / 2)


def test_a_blocked_job_waits_for_no_worker_and_a_delayed_one_for_none_yet(lives, workers):
    needed = lives.submit()
    lives.submit(awaited=(needed,))
    lives.store.retry_later(lives.claim(needed), "retryable", "m")
    status = workers.status("test")
    assert (status.waiting, status.oldest_wait_s) == (1, 0.0)


def test_a_worker_that_stops_announcing_itself_is_gone(lives, workers):
    workers.announce("test@one", "test", 2, 10)
    lives.wait(10)
    assert workers.status("test").workers == 0


def test_a_worker_that_leaves_is_gone_at_once(workers):
    workers.announce("test@one", "test", 2, 10)
    workers.remove("test@one", "test")
    assert (workers.status("test").workers, workers.status("test").slots) == (0, 0)


def test_slots_per_worker_are_remembered_when_none_is_alive(lives, workers):
    workers.announce("test@one", "test", 4, 10)
    lives.wait(11)
    for _ in range(5):
        lives.submit()
    assert workers.status("test").desired_workers == 2  # ceil(5 / 4)


def test_workers_of_names_that_never_come_back_leave_nothing(lives, workers):
    for n in range(20):
        workers.announce(f"test@pod-{n}", "test", 1, 10)
        lives.wait(11)
        workers.status("test")
    assert lives.redis.hlen("tf:slots:test") == 0
    assert lives.redis.zcard("tf:workers:test") == 0


def test_a_workers_gpus_are_told_as_long_as_it_lives(lives, workers):
    workers.announce("test@one", "test", 1, 10)
    workers.announce_gpus("test@one", "test", [GpuMemory(3, 80), GpuMemory(5, 80)])
    assert workers.gpus("test") == {"test@one": [(3, 80), (5, 80)]}
    lives.wait(11)
    workers.status("test")
    assert workers.gpus("test") == {}
