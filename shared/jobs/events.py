"""A job's event stream: what happened to it, in order, each entry with an id to resume from."""

import json
import re
from typing import Any, NamedTuple

from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, JobStore

BEGINNING = "0-0"  # before every event
EVENT_ID = re.compile(r"\d{1,16}-\d{1,16}\Z")


class Event(NamedTuple):
    """One entry. `data` holds the event's own fields and `attempt`."""

    id: str
    type: str
    data: dict[str, Any]

    @classmethod
    def from_entry(cls, entry_id: str, fields: dict[str, str]) -> "Event":
        own = {"state": fields["d"]} if fields["t"] == "state" else json.loads(fields["d"])
        return cls(entry_id, fields["t"], {"attempt": int(fields["a"]), **own})


def stream_key(job_id: str) -> str:
    return f"{PREFIX}events:{job_id}"


def precedes(one: str, other: str) -> bool:
    """Is event id `one` before `other`?"""
    return _order(one) < _order(other)


class EventLog:
    """Reading events."""

    def __init__(self, store: JobStore) -> None:
        self._redis = store.redis

    def after(self, job_id: str, event_id: str, limit: int = 1000) -> list[Event]:
        """Events later than an id ("0-0": from the head)."""
        rows = self._redis.xrange(stream_key(job_id), min=f"({event_id}", count=limit)
        return [Event.from_entry(*row) for row in rows]

    def last_id(self, job_id: str) -> str:
        """The id of the newest event; "0-0" when there is none."""
        newest = self._redis.xrevrange(stream_key(job_id), count=1)
        return str(newest[0][0]) if newest else BEGINNING

    def gap_before(self, job_id: str, event_id: str) -> Event | None:
        """The `gap` event for somebody who resumes after an id that the stream no longer reaches back to.

        A stream that begins with the submission is whole; another has lost its head, to its length or its age.
        """
        head = self._redis.xrange(stream_key(job_id), count=1)
        if not head or not precedes(event_id, head[0][0]):
            return None
        first = head[0][1]
        if first["t"] == "state" and first["a"] == "0" and first["d"] in (JobState.QUEUED, JobState.BLOCKED):
            return None
        return Event(event_id, "gap", {"attempt": int(first["a"]), "resumes_at": head[0][0]})


def _order(event_id: str) -> tuple[int, int]:
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)
