"""One thread that follows every watched event stream with one connection, and hands each event to who waits for it.

A thread per open stream would be a Redis connection per stream; five hundred streams are one XREAD here.
"""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import structlog

from shared.jobs.events import Event, EventLog, precedes, stream_key
from shared.jobs.store import JobStore

BLOCK_MS = 25  # how soon a new subscription is noticed
BATCH = 500

log = structlog.get_logger()


class Subscription:
    """The events of one job from an id on, in order, without repeat."""

    def __init__(self, job_id: str, after: str) -> None:
        self.job_id, self.last = job_id, after
        self._queue: queue.Queue[Event] = queue.Queue()

    def put(self, event: Event) -> None:
        if precedes(self.last, event.id):
            self.last = event.id
            self._queue.put(event)

    def get(self, timeout_s: float) -> Event | None:
        """The next event, or None after `timeout_s`."""
        try:
            return self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()
        except queue.Empty:
            return None

    def rest(self) -> Iterator[Event]:
        """What has been received and not taken."""
        while (event := self.get(0.0)) is not None:
            yield event


class Tail:
    """Follows streams; the thread starts with the first subscription, so after any fork."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._log = store, EventLog(store)
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._subscriptions: dict[str, list[Subscription]] = defaultdict(list)
        self._read_to: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def follow(self, job_id: str, after: str) -> Iterator[Subscription]:
        """Subscribe to a job's events later than `after`; those already there come first."""
        subscription = Subscription(job_id, after)
        self._catch_up(subscription)
        with self._lock:
            self._subscriptions[job_id].append(subscription)
            read_to = self._read_to.get(job_id)
            if read_to is None or precedes(subscription.last, read_to):
                self._read_to[job_id] = subscription.last  # others skip what they have seen
            self._start()
        self._some.set()
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions[job_id].remove(subscription)
                if not self._subscriptions[job_id]:
                    del self._subscriptions[job_id], self._read_to[job_id]

    def _catch_up(self, subscription: Subscription) -> None:
        while events := self._log.after(subscription.job_id, subscription.last):
            for event in events:
                subscription.put(event)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                streams = {stream_key(job_id): read_to for job_id, read_to in self._read_to.items()}
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
        events = [Event.from_entry(*row) for row in rows]
        with self._lock:
            for subscription in self._subscriptions.get(job_id, ()):
                for event in events:
                    subscription.put(event)
            if job_id in self._read_to and precedes(self._read_to[job_id], events[-1].id):
                self._read_to[job_id] = events[-1].id
