"""One thread that follows every watched event stream with one connection, and hands each event to who waits for it.

A thread per open stream would be a Redis connection per stream; five hundred streams are one XREAD here.
"""

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import redis
import structlog

from shared.jobs.events import Event, EventLog, precedes, stream_key
from shared.jobs.states import JobState
from shared.jobs.store import JobStore

BLOCK_MS = 25  # how soon a new subscription is noticed
BATCH = 500  # events handed on at once

log = structlog.get_logger()


class Heard(NamedTuple):
    """An event and its wire form, made once for all who follow it."""

    event: Event
    frame: bytes

    @classmethod
    def of(cls, event: Event) -> "Heard":
        data = json.dumps(event.data, ensure_ascii=False)
        return cls(event, f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n".encode())

    def says_final(self, otherwise: bool) -> bool:
        """Whether the job is final by this event; `otherwise`, where it says nothing of that."""
        return JobState(self.event.data["state"]).is_final if self.event.type == "state" else otherwise


class Subscription:
    """The events of one job from an id on, in order, without repeat."""

    def __init__(self, job_id: str, after: str) -> None:
        self.job_id, self.last = job_id, after
        self._queue: queue.SimpleQueue[Heard] = queue.SimpleQueue()

    def put(self, heard: Heard) -> None:
        if precedes(self.last, heard.event.id):
            self.last = heard.event.id
            self._queue.put(heard)

    def take(self, timeout_s: float) -> list[Heard]:
        """What has come, oldest first; waits for the first up to `timeout_s`."""
        heard = []
        try:
            heard.append(self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait())
            while len(heard) < BATCH:
                heard.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return heard


@dataclass
class Followed:
    """A job that somebody follows here."""

    read_to: str
    subscriptions: list[Subscription] = field(default_factory=list)
    looking: threading.Lock = field(default_factory=threading.Lock)
    over_at: str | None = None
    """The id of the event after which the job was seen to be over."""


class Tail:
    """Follows streams; the thread starts with the first subscription, so after any fork."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._log = store, EventLog(store)
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._followed: dict[str, Followed] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def close(self) -> None:
        """End the thread; who still follows hears nothing more."""
        self._is_closed = True
        self._some.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def follow(self, job_id: str, after: str) -> Iterator[Subscription]:
        """Subscribe to a job's events later than `after`; those already there come first."""
        subscription = Subscription(job_id, after)
        self._catch_up(subscription)
        with self._lock:
            followed = self._followed.setdefault(job_id, Followed(subscription.last))
            followed.subscriptions.append(subscription)
            if precedes(subscription.last, followed.read_to):
                followed.read_to = subscription.last  # others skip what they have seen
            self._start()
        self._some.set()
        try:
            yield subscription
        finally:
            with self._lock:
                followed.subscriptions.remove(subscription)
                if not followed.subscriptions:
                    del self._followed[job_id]

    def is_over(self, subscription: Subscription) -> bool:
        """The record is final or gone, and nothing in its stream is later than what this subscription has heard.

        At a job's end all who follow it ask at once: one of them looks, and the others take its word.
        """
        job_id, last = subscription.job_id, subscription.last
        followed = self._followed[job_id]
        with followed.looking:
            if followed.over_at != last:
                state = self._store.state(job_id)  # before the events: what comes after a final state is none
                is_over = (state is None or state.is_final) and not precedes(last, self._log.last_id(job_id))
                followed.over_at = last if is_over else None
            return followed.over_at == last

    def _catch_up(self, subscription: Subscription) -> None:
        while events := self._log.after(subscription.job_id, subscription.last):
            for event in events:
                subscription.put(Heard.of(event))

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._is_closed:
            with self._lock:
                streams = {stream_key(job_id): followed.read_to for job_id, followed in self._followed.items()}
            if not streams:
                self._some.clear()
                self._some.wait(1.0)
                continue
            try:
                answer = self._store.redis.xread(streams, count=BATCH, block=BLOCK_MS)
            except redis.RedisError as error:
                log.warning("store unreachable", error=str(error))
                time.sleep(0.2)
                continue
            for key, rows in answer or []:
                self._hand_out(key.rsplit(":", 1)[1], rows)

    def _hand_out(self, job_id: str, rows: list[tuple[str, dict[str, str]]]) -> None:
        heard = [Heard.of(Event.from_entry(*row)) for row in rows]
        with self._lock:
            followed = self._followed.get(job_id)
            if followed is None:
                return
            for subscription in followed.subscriptions:
                for one in heard:
                    subscription.put(one)
            if precedes(followed.read_to, heard[-1].event.id):
                followed.read_to = heard[-1].event.id
