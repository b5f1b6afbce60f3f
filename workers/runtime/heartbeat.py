"""The thread beside a running job: renews the lease, sends what the job says, learns what is asked of it.

Reports are buffered and sent a few times a second, so a method may call `ctx.progress` in its innermost loop. When no
write reached the store for one lease TTL by this process's own monotonic clock, the job may be somebody else's already:
the method is told to stop, and if it doesn't, the process group ends itself.
"""

import contextvars
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import redis
import structlog

from shared.jobs.errors import Cancelled, HandBack, Interrupted, LeaseLost, TimedOut
from shared.jobs.store import Claim, Flags, JobStore, Report

SEND_EVERY_S = 0.05
PEEK_EVERY_S = 0.5
EVENTS_PER_WRITE = 200
UNWIND_S = 5.0  # what a method gets to stop after its lease is lost

log = structlog.get_logger()


class Lease(NamedTuple):
    """The terms of a claim, in seconds."""

    ttl_s: float
    renew_s: float
    time_left_s: float | None = None  # of the job's timeout_s; None: no limit


class Heartbeat:
    """Everything one claim writes while its method runs, from one background thread."""

    def __init__(self, store: JobStore, claim: Claim, lease: "Lease") -> None:
        self._store, self._claim = store, claim
        self._ttl_s, self._renew_s = lease.ttl_s, lease.renew_s
        self._ends_at = time.monotonic() + lease.time_left_s if lease.time_left_s is not None else None
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._fields: dict[str, str] = {}
        self._events: list[tuple[str, str]] = []
        self._log: list[str] = []
        self._flags = Flags(False, False, False)
        self._is_lost = False
        self._last_contact = time.monotonic()
        self._thread = threading.Thread(
            target=_with_my_context(self._beat), name=f"heartbeat {claim.job_id}", daemon=True
        )

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout=10)

    # What the context calls ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise when the method must stop."""
        if self._is_lost or time.monotonic() - self._last_contact > self._ttl_s:
            raise LeaseLost(f"job {self._claim.job_id} is no longer attempt {self._claim.attempt}'s")
        if self._flags.cancel:
            raise Cancelled("the job was cancelled")
        if self._flags.overtime or (self._ends_at is not None and time.monotonic() > self._ends_at):
            raise TimedOut("the job's running time is used up")
        if self._flags.hand_back:
            raise HandBack("the worker is stopping")

    def event(self, kind: str, data: dict[str, Any]) -> None:
        with self._lock:
            self._events.append((kind, _json(data)))
        self._wake.set()

    def log(self, message: str, data: dict[str, Any]) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self._lock:
            self._log.append(f"{stamp} attempt {self._claim.attempt}: {message}\n")
            self._events.append(("log", _json(data)))
        self._wake.set()

    def progress(self, progress: dict[str, Any]) -> None:
        """Only the newest progress of each sending is worth an event."""
        text = _json(progress)
        with self._lock:
            self._fields["progress"] = text
        self._wake.set()

    def write(self, fields: dict[str, str]) -> None:
        """Write fields now, with all that was said before. Raises LeaseLost, redis errors after one TTL of tries."""
        deadline = time.monotonic() + self._ttl_s
        with self._lock:
            self._fields.update(fields)
        while True:
            try:
                self.flush()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def flush(self) -> None:
        """Send everything that was said. On failure nothing is forgotten."""
        with self._sending:
            while True:
                fields, events, text = self._take()
                if not (fields or events or text):
                    return
                try:
                    self._heed(self._store.report(self._claim, Report(fields, events, text)))
                except redis.RedisError:
                    self._put_back(fields, events, text)
                    raise
                except LeaseLost:
                    self._is_lost = True
                    raise

    def _take(self) -> tuple[dict[str, str], list[tuple[str, str]], str]:
        with self._lock:
            fields, self._fields = self._fields, {}
            events, self._events = self._events[:EVENTS_PER_WRITE], self._events[EVENTS_PER_WRITE:]
            text, self._log = "".join(self._log), []
        if "progress" in fields:
            events = [*events, ("progress", fields["progress"])]
        return fields, events, text

    def _put_back(self, fields: dict[str, str], events: list[tuple[str, str]], text: str) -> None:
        with self._lock:
            self._fields = {**fields, **self._fields}
            self._events = [event for event in events if event[0] != "progress"] + self._events
            self._log = [text, *self._log] if text else self._log

    # The thread ---------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._stopped.is_set():
            self._wake.wait(PEEK_EVERY_S)
            if self._wake.is_set():
                self._wake.clear()
                self._stopped.wait(SEND_EVERY_S)  # gather what comes together
            try:
                self.flush()
                if time.monotonic() - renewed >= self._renew_s:
                    self._heed(self._store.renew(self._claim, self._ttl_s))
                    renewed = time.monotonic()
                else:
                    self._heed(self._store.flags(self._claim))
            except LeaseLost:
                self._is_lost = True
            except (redis.RedisError, OSError) as error:
                log.warning("store unreachable", error=str(error))
                self._stopped.wait(0.2)
            self._stop_myself_when_lost()

    def _heed(self, flags: Flags) -> None:
        self._flags = Flags(*(old or new for old, new in zip(self._flags, flags, strict=True)))
        self._last_contact = time.monotonic()

    def _stop_myself_when_lost(self) -> None:
        if time.monotonic() - self._last_contact > self._ttl_s:
            self._is_lost = True
        if self._is_lost and not self._stopped.wait(UNWIND_S):
            log.error("lease lost and the method goes on: ending the process group")
            os.killpg(os.getpgid(0), signal.SIGKILL)


def _with_my_context(call: Callable[[], None]) -> Callable[[], None]:
    """The call with this thread's context variables: its log lines tell the same job_id, attempt, kind."""
    return partial(contextvars.copy_context().run, call)


def interruption_of(error: BaseException) -> Interrupted | None:
    """The interruption behind an error, also when a library wrapped it in its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Interrupted):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
