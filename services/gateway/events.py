"""`/v1/jobs/{id}/events` and `/log`: what a job says, live.

Server-sent events: each has an `id:` to resume from (`Last-Event-ID`), a heartbeat comment comes every 15 s, and the
stream ends when the record is final and everything has been sent. One caller may hold TENFOLD_STREAMS_PER_CALLER of
them.
"""

import secrets
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Annotated, NamedTuple

from flask import Response, request
from pydantic import Field

from services.gateway.auth import caller
from services.gateway.bodies import validate_query
from services.gateway.jobs import READ, QueryModel, find_job
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from services.gateway.state import Gateway, gateway
from services.gateway.tail import Heard
from services.gateway.views import EventList
from shared.jobs.errors import BadRequest, FieldError
from shared.jobs.events import BEGINNING, EVENT_ID, EventLog
from shared.jobs.layout import LOG, job_file, log_key
from shared.jobs.record import JobRecord
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, JobStore

routes = Routes()
HEARTBEAT_S = 15.0
SLOT_S = 45.0  # a stream that did not say it is alive for so long holds no slot
LOOK_S = 5.0  # a quiet job's record is looked at so often: it may be deleted, or its stream expired
PAGE = 1000
MEDIA_TYPES = ("text/event-stream", "application/json")


class EventsQuery(QueryModel):
    after: Annotated[str, Field(pattern=r"^\d{1,16}-\d{1,16}$")] | None = None
    """Only events later than this id."""


class LogQuery(QueryModel):
    offset: int = Field(0, ge=0, le=2**53)
    """Bytes to skip."""


@routes.add(
    Operation(
        "GET",
        "/v1/jobs/{job_id}/events",
        "events",
        "A job's events, live (SSE) or as a page (JSON)",
        {200: Answer(EventList, "Events", MEDIA_TYPES)},
        READ,
        (404, 406, 422, 429),
        EventsQuery,
        None,
        ("Last-Event-ID",),
    )
)
def job_events(job_id: str) -> Response:
    query = validate_query(EventsQuery)
    state = _state_of(job_id)
    after = request.headers.get("Last-Event-ID") or query.after or BEGINNING
    if not EVENT_ID.match(after):
        raise BadRequest(
            "Last-Event-ID is not an event id", [FieldError(("header", "Last-Event-ID"), "not an id", "event_id")]
        )
    accepted = request.accept_mimetypes.best_match(MEDIA_TYPES) if request.accept_mimetypes else MEDIA_TYPES[0]
    if accepted is None:
        raise Problem("not_acceptable", f"events come as {' or '.join(MEDIA_TYPES)}")
    return _page(job_id, after) if accepted == "application/json" else _stream(job_id, after, state)


@routes.add(
    Operation(
        "GET",
        "/v1/jobs/{job_id}/log",
        "events",
        "The log so far",
        {200: Answer(None, "Text from the offset on", ("text/plain",))},
        READ,
        (404, 422),
        LogQuery,
    )
)
def job_log(job_id: str) -> Response:
    offset = validate_query(LogQuery).offset
    record = find_job(job_id)
    data = _finished_log(record) if record.state.is_final else None
    if data is None:
        key = f"{PREFIX}log:{job_id}"
        data = gateway().store.redis.execute_command("GETRANGE", key, 0, -1, NEVER_DECODE=[]) or b""
    return Response(data[offset:], mimetype="text/plain", headers={"X-Log-Bytes": str(len(data))})


def _finished_log(record: JobRecord) -> bytes | None:
    """The whole log as the last attempt left it, or the reconciler for a job without one; None when neither did."""
    places = [job_file(record.id, record.prefix, LOG)] if record.prefix else []
    for key in (*places, log_key(record.id)):
        with suppress(FileNotFoundError):
            return gateway().artifacts.get_bytes(key)
    return None


def _state_of(job_id: str) -> JobState:
    """Raises NotFound."""
    return gateway().store.state(job_id) or find_job(job_id).state


def _page(job_id: str, after: str) -> Response:
    log = EventLog(gateway().store)
    gap = log.gap_before(job_id, after)
    state = gateway().store.state(job_id)  # before the events: what comes after a final state is none
    was_final = state is None or state.is_final
    events = log.after(job_id, after, PAGE)
    items = [*([gap] if gap and after != BEGINNING else []), *events]
    is_done = was_final and len(events) < PAGE
    next_after = None if is_done else (events[-1].id if events else after)
    return answer_json({"items": [event._asdict() for event in items], "next_after": next_after})


def _stream(job_id: str, after: str, state: JobState) -> Response:
    parts, owner, stream_id = gateway(), caller().owner, secrets.token_hex(8)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(mimetype="text/event-stream", headers=headers)
    limit = parts.settings.streams_per_caller
    if not parts.store.hold_stream(owner, stream_id, limit, SLOT_S):
        raise Problem("quota", f"you have {limit} open event streams", headers={"Retry-After": "5"})
    slot = _Slot(parts.store, owner, stream_id, limit)
    body = _Held(_events(parts, job_id, after, state, slot), slot)
    return Response(body, mimetype="text/event-stream", headers=headers, direct_passthrough=True)


class _Slot(NamedTuple):
    """One of the streams a caller may hold."""

    store: JobStore
    owner: str
    stream_id: str
    limit: int

    def keep(self) -> None:
        self.store.hold_stream(self.owner, self.stream_id, self.limit, SLOT_S)

    def free(self) -> None:
        self.store.release_stream(self.owner, self.stream_id)


class _Held:
    """The stream's body; its slot is free again when it ends, also when the client went away before its first byte."""

    def __init__(self, chunks: Generator[bytes, None, None], slot: _Slot) -> None:
        self._chunks, self._slot = chunks, slot

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._chunks.close()
        self._slot.free()


def _events(parts: Gateway, job_id: str, after: str, state: JobState, slot: _Slot) -> Generator[bytes, None, None]:
    log = EventLog(parts.store)
    yield b"retry: 1000\n\n"
    if after != BEGINNING and (gap := log.gap_before(job_id, after)):
        yield Heard.of(gap).frame
    with parts.tail.follow(job_id, after) as subscription:
        spoke = held = time.monotonic()
        seems_final = state.is_final
        patience_s = 0.0 if seems_final else LOOK_S  # of a job that is over nothing more may come
        while True:
            heard = subscription.take(patience_s)
            if heard:
                yield b"".join(one.frame for one in heard)
            for one in heard:
                seems_final = one.says_final(seems_final)
            if (seems_final or not heard) and parts.tail.is_over(subscription):
                while rest := subscription.take(0.0):
                    yield b"".join(one.frame for one in rest)
                return
            now = time.monotonic()
            spoke = now if heard else spoke
            if now - held > SLOT_S / 3:
                slot.keep()
                held = now
            if now - spoke > HEARTBEAT_S - LOOK_S / 2:  # the look nearest to every 15 s
                yield b": alive\n\n"
                spoke = now
            patience_s = LOOK_S
