"""`/v1/jobs/{id}/events` and `/log`: what a job says, live.

Server-sent events: each has an `id:` to resume from (`Last-Event-ID`), a heartbeat comment comes every 15 s, and the
stream ends when the record is final and everything has been sent. One caller may hold TENFOLD_STREAMS_PER_CALLER of
them.
"""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Annotated

from flask import Response, request
from pydantic import Field

from services.gateway.auth import caller
from services.gateway.bodies import validate_query
from services.gateway.jobs import READ, QueryModel, find_job
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from services.gateway.state import Gateway, gateway
from services.gateway.views import EventList
from shared.jobs.errors import BadRequest, FieldError, NotFound
from shared.jobs.events import EVENT_ID, Event, EventLog
from shared.jobs.layout import LOG, job_file
from shared.jobs.store import PREFIX

routes = Routes()
HEARTBEAT_S = 15.0
SLOT_S = 45.0  # a stream that did not say it is alive for so long holds no slot
PAGE = 1000
BEGINNING = "0-0"


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
        {200: Answer(EventList, "Events", ("text/event-stream", "application/json"))},
        READ,
        (404, 422, 429),
        EventsQuery,
        None,
        ("Last-Event-ID",),
    )
)
def job_events(job_id: str) -> Response:
    query = validate_query(EventsQuery)
    find_job(job_id)
    after = request.headers.get("Last-Event-ID") or query.after or BEGINNING
    if not EVENT_ID.match(after):
        raise BadRequest(
            "Last-Event-ID is not an event id", [FieldError(("header", "Last-Event-ID"), "not an id", "event_id")]
        )
    best = request.accept_mimetypes.best_match(["text/event-stream", "application/json"], default="text/event-stream")
    if best == "application/json":
        return _page(job_id, after)
    return _stream(job_id, after)


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
    text: str | None = gateway().store.redis.get(f"{PREFIX}log:{job_id}")
    data = text.encode() if text is not None else b""
    if text is None and record.state.is_final and record.prefix:
        try:
            data = gateway().artifacts.get_bytes(job_file(job_id, record.prefix, LOG))
        except FileNotFoundError:
            data = b""
    return Response(data[offset:], mimetype="text/plain", headers={"X-Log-Bytes": str(len(data))})


def _page(job_id: str, after: str) -> Response:
    log = EventLog(gateway().store)
    gap = log.gap_before(job_id, after)
    was_final = find_job(job_id).state.is_final
    events = log.after(job_id, after, PAGE)
    items = [*([gap] if gap and after != BEGINNING else []), *events]
    is_done = was_final and len(events) < PAGE
    next_after = None if is_done else (events[-1].id if events else after)
    return answer_json({"items": [event._asdict() for event in items], "next_after": next_after})


def _stream(job_id: str, after: str) -> Response:
    parts, stream_id = gateway(), secrets.token_hex(8)
    owner = caller().owner
    if not parts.store.hold_stream(owner, stream_id, parts.settings.streams_per_caller, SLOT_S):
        limit = parts.settings.streams_per_caller
        raise Problem("quota", f"you have {limit} open event streams", headers={"Retry-After": "5"})
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    body = _Held(_events(parts, job_id, after, owner, stream_id), parts, owner, stream_id)
    return Response(body, mimetype="text/event-stream", headers=headers)


class _Held:
    """The stream's body; its slot is free again when it ends, also when the client went away before its first byte."""

    def __init__(self, chunks: Iterator[str], parts: Gateway, owner: str, stream_id: str) -> None:
        self._chunks, self._parts, self._owner, self._stream_id = chunks, parts, owner, stream_id

    def __iter__(self) -> Iterator[str]:
        return self._chunks

    def close(self) -> None:
        self._chunks.close()  # type: ignore[attr-defined]
        self._parts.store.release_stream(self._owner, self._stream_id)


def _events(parts: Gateway, job_id: str, after: str, owner: str, stream_id: str) -> Iterator[str]:
    yield "retry: 1000\n\n"
    log = EventLog(parts.store)
    if after != BEGINNING and (gap := log.gap_before(job_id, after)):
        yield _sse(gap)
    with parts.tail.follow(job_id, after) as subscription:
        spoke = held = time.monotonic()
        while True:
            event = subscription.get(0.5)
            if event is not None:
                yield _sse(event)
                spoke = time.monotonic()
            if time.monotonic() - held > SLOT_S / 3:
                parts.store.hold_stream(owner, stream_id, parts.settings.streams_per_caller, SLOT_S)
                held = time.monotonic()
            if (event is None or event.type == "state") and _is_over(parts, log, job_id, subscription.last):
                yield from (_sse(late) for late in subscription.rest())
                return
            if time.monotonic() - spoke > HEARTBEAT_S:
                yield ": alive\n\n"
                spoke = time.monotonic()


def _is_over(parts: Gateway, log: EventLog, job_id: str, last: str) -> bool:
    """The record is final, and nothing in its stream is later than what was received."""
    try:
        state = parts.store.state(job_id)
        return (state is None or state.is_final) and not log.after(job_id, last, 1)
    except NotFound:
        return True


def _sse(event: Event) -> str:
    return f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(event.data, ensure_ascii=False)}\n\n"
