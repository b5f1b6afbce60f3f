"""A job's stream, and the slots of open streams."""

import time

from shared.jobs.events import EventLog, precedes
from shared.jobs.states import JobState
from shared.jobs.store import Report


def test_a_life_is_told_in_order_with_its_attempts(lives):
    id = lives.submit()
    lives.store.lose(id, lives.claim(id).attempt)
    claim = lives.claim(id)
    lives.store.report(claim, Report(events=[("metric", '{"name":"x","value":1}')]))
    lives.store.cancel(id)
    lives.store.lose(id, 2)
    told = [(event.type, event.data) for event in EventLog(lives.store).after(id, "0-0")]
    assert told == [
        ("state", {"attempt": 0, "state": "queued"}),
        ("state", {"attempt": 1, "state": "running"}),
        ("state", {"attempt": 1, "state": "queued"}),
        ("state", {"attempt": 2, "state": "running"}),
        ("metric", {"attempt": 2, "name": "x", "value": 1}),
        ("state", {"attempt": 2, "state": "running"}),  # a cancel was requested
        ("state", {"attempt": 2, "state": "cancelled"}),
    ]


def test_reading_resumes_after_an_id_without_repeat(lives):
    id = lives.submit()
    lives.end(id)
    log = EventLog(lives.store)
    events = log.after(id, "0-0")
    assert log.after(id, events[0].id) == events[1:]
    assert log.after(id, events[-1].id) == []


def test_ids_are_compared_as_numbers():
    assert precedes("9-9", "10-0")
    assert precedes("10-9", "10-10")
    assert not precedes("10-10", "10-10")


def test_a_whole_stream_has_no_gap(lives):
    id = lives.submit()
    assert EventLog(lives.store).gap_before(id, "0-1") is None


def test_a_stream_that_lost_its_head_has_a_gap_for_who_was_there(lives):
    id = lives.submit()
    log = EventLog(lives.store)
    seen = log.after(id, "0-0")[0].id
    claim = lives.claim(id)
    for _ in range(11):
        lives.store.report(claim, Report(events=[("metric", "{}")] * 1000))
    gap = log.gap_before(id, seen)
    head = log.after(id, "0-0", 1)[0]
    assert (gap.type, gap.data) == ("gap", {"attempt": 1, "resumes_at": head.id})
    assert log.gap_before(id, head.id) is None


def test_a_stream_that_expired_before_a_retry_has_a_gap(lives):
    id = lives.submit()
    lives.end(id, JobState.FAILED)
    log = EventLog(lives.store)
    seen = log.after(id, "0-0")[-1].id
    lives.redis.delete(f"tf:events:{id}")
    time.sleep(0.002)  # 24 hours later; ids tell Redis's own time, not the test's
    lives.retry(id)
    assert log.gap_before(id, seen).type == "gap"
    lives.end(id)
    lives.store.forget(id, with_files=True)


def test_a_job_without_stream_has_no_events(lives):
    assert EventLog(lives.store).after("X", "0-0") == []
    assert EventLog(lives.store).gap_before("X", "5-0") is None


def test_open_streams_of_a_caller_are_capped_and_slots_come_back(lives):
    hold = lives.store.hold_stream
    assert hold("ann", "1", 2, 45)
    assert hold("ann", "2", 2, 45)
    assert not hold("ann", "3", 2, 45)
    assert hold("ann", "2", 2, 45), "its own slot is kept, not taken twice"
    assert hold("ben", "3", 2, 45)
    lives.store.release_stream("ann", "1")
    assert hold("ann", "3", 2, 45)
    lives.wait(46)
    assert hold("ann", "4", 2, 45)
    lives.redis.delete("tf:streams:ann", "tf:streams:ben")
