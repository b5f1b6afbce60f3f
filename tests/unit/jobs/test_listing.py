"""Listing: newest first, filtered by any number of criteria, every job once."""

import pytest

from shared.jobs.states import JobState
from shared.jobs.store import WALK, Query, Submission
from tests.unit.jobs.lives import new_job

CHOICES = [
    pytest.param(Query(), lambda n: True, id="all"),
    pytest.param(Query(kind="test.walk"), lambda n: n % 2 == 0, id="kind"),
    pytest.param(Query(state=JobState.CANCELLED), lambda n: n % 3 == 0, id="state"),
    pytest.param(Query(owner="ben"), lambda n: n % 5 == 0, id="owner"),
    pytest.param(Query(labels=(("n", "4"),)), lambda n: n % 7 == 4, id="label"),
    pytest.param(Query(labels=(("n", "4"), ("odd", "1"))), lambda n: n % 7 == 4 and n % 2, id="two-labels"),
    pytest.param(Query(kind="test.walk", state=JobState.QUEUED, owner="ann", labels=(("n", "1"),)),
                 lambda n: n % 2 == 0 and n % 3 and n % 5 and n % 7 == 1, id="everything"),
    pytest.param(Query(kind="test.none"), lambda n: False, id="none"),
    pytest.param(Query(owner=""), lambda n: False, id="nobody"),
]  # fmt: skip


def submit_many(lives, count):
    ids = []
    for n in range(count):
        labels = {"n": str(n % 7), "odd": str(n % 2)}
        kind = "test.noop" if n % 2 else "test.walk"
        ids.append(lives.submit(Submission("ann" if n % 5 else "ben"), kind=kind, labels=labels))
        if n % 3 == 0:
            lives.store.cancel(ids[-1])
    return ids


def walk(lives, query, limit):
    """Every page."""
    found, cursor = [], None
    while True:
        page = lives.store.find(Query(query.kind, query.state, query.owner, query.labels, limit, cursor))
        assert len(page.items) <= limit
        found += [record.id for record in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 7, 50, 200])
@pytest.mark.parametrize(("query", "holds"), CHOICES)
def test_a_walk_over_the_pages_finds_exactly_the_jobs_asked_for(lives, query, holds, limit):
    ids = submit_many(lives, 120)
    assert walk(lives, query, limit) == [id for n, id in reversed(list(enumerate(ids))) if holds(n)]


def test_every_job_of_the_first_page_comes_once_while_others_arrive(lives):
    before = submit_many(lives, 20)
    page = lives.store.find(Query(limit=6))
    seen = [record.id for record in page.items]
    while page.next_cursor:
        submit_many(lives, 3)
        page = lives.store.find(Query(limit=6, cursor=page.next_cursor))
        seen += [record.id for record in page.items]
    assert seen == before[::-1]


def test_a_page_looks_at_a_bounded_number_of_entries_and_may_be_short(lives):
    for owner, kind, thousands in (("ann", "test.noop", 1), ("ben", "test.noop", 3), ("ann", "test.walk", 3)):
        for _ in range(thousands):
            lives.store.submit_sweep([new_job(kind=kind)] * 1000, {"kind": kind}, Submission(owner))
    assert WALK < 3000
    page = lives.store.find(Query(kind="test.noop", owner="ann"))
    assert (page.items, page.next_cursor is not None) == ([], True)
    assert len(walk(lives, Query(kind="test.noop", owner="ann"), 200)) == 1000


def test_a_listing_leaves_out_what_is_large(lives):
    id = lives.submit(params='{"x":1}')
    lives.end(id, result='{"y":1}', artifacts="[1]")
    (record,) = lives.store.find(Query()).items
    assert (record.params, record.result, record.artifacts) == ("{}", None, "[]")
    assert (record.id, record.state, record.finished_ms) == (id, JobState.SUCCEEDED, record.created_ms)


def test_an_index_entry_without_record_is_left_out(lives):
    ghost = "01HF7YAT00001T61MNBTD39MPC"
    lives.redis.zadd("tf:ix:all", {ghost: 0})
    assert lives.store.find(Query()).items == []
    lives.redis.zrem("tf:ix:all", ghost)
