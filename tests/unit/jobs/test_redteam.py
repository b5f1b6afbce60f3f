"""The red-team list and its audit trail."""

import threading

import pytest

from shared.jobs.errors import NotFound
from shared.jobs.redteam import AUDIT, Redteam


@pytest.fixture
def redteam(lives):
    return Redteam(lives.store)


def test_a_model_on_the_list_is_found_until_it_is_removed(redteam):
    model = redteam.allow("tiny", "builtin:tiny", "ann", "d" * 64)
    assert redteam.find("tiny") == model
    assert redteam.all() == [model]
    redteam.remove("tiny", "ben")
    with pytest.raises(NotFound, match="not on the red-team list"):
        redteam.find("tiny")
    with pytest.raises(NotFound):
        redteam.remove("tiny", "ben")


def test_every_change_leaves_an_audit_record(redteam):
    redteam.allow("tiny", "builtin:tiny", "ann", "d" * 64)
    redteam.record("ann", "submit", "dsn.attack 01J")
    redteam.remove("tiny", "ben")
    trail = [(entry.owner, entry.action, entry.detail) for entry in redteam.audit()]
    assert trail == [
        ("ann", "allow", f"tiny = builtin:tiny {'d' * 64}"),
        ("ann", "submit", "dsn.attack 01J"),
        ("ben", "remove", "tiny"),
    ]
    assert redteam.verify() == (3, None)


def test_an_empty_trail_is_whole(redteam):
    assert redteam.verify() == (0, None)


def records(redteam, count):
    for n in range(count):
        redteam.record("ann", "submit", f"job {n}")
    return redteam.audit(limit=1000)


def replaced(lives, entries, at, **changes):
    """The stream anew, one entry changed; ids stay."""
    lives.redis.delete(AUDIT)
    for n, entry in enumerate(entries):
        fields = {
            "at_ms": str(entry.at_ms),
            "owner": entry.owner,
            "action": entry.action,
            "detail": entry.detail,
            "hash": entry.hash,
        }
        lives.redis.xadd(AUDIT, fields | (changes if n == at else {}), id=entry.id)


@pytest.mark.parametrize("changes", [{"owner": "ben"}, {"detail": "job 9"}, {"at_ms": "1"}, {"hash": "0" * 64}])
def test_a_changed_entry_is_found(lives, redteam, changes):
    entries = records(redteam, 5)
    replaced(lives, entries, 2, **changes)
    assert redteam.verify() == (2, entries[2].id)


@pytest.mark.parametrize("gone", [0, 2])
def test_a_removed_entry_is_found(lives, redteam, gone):
    entries = records(redteam, 5)
    lives.redis.xdel(AUDIT, entries[gone].id)
    assert redteam.verify() == (gone, entries[gone + 1].id)


def test_a_trail_cut_at_its_end_is_found(lives, redteam):
    entries = records(redteam, 5)
    lives.redis.xdel(AUDIT, entries[4].id)
    assert redteam.verify() == (4, entries[3].id)
    lives.redis.delete(AUDIT)
    assert redteam.verify() == (0, "0-0")


def test_writers_at_once_make_one_chain(redteam):
    threads = [threading.Thread(target=records, args=(redteam, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert redteam.verify() == (80, None)


def test_the_trail_comes_in_pages(redteam):
    entries = records(redteam, 5)
    assert redteam.audit(limit=2) == entries[:2]
    assert redteam.audit(after=entries[1].id, limit=9) == entries[2:]
