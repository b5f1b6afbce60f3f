"""A job's events as they happen: Server-Sent Events, gone on with after a broken connection.

`follow` is the entry point. The parser implements the fields of the HTML standard's event stream that the cluster uses
(`id`, `event`, `data`, `retry`, comments).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.client.connection import Connection, pauses, reason
from services.client.errors import TooMany, Unavailable, Unreachable
from services.client.models import Event

READ_TIMEOUT_S = 45.0
"""Three heartbeats of the cluster (15 s each): a connection silent for longer is dead."""
CUT_PAUSE_S = 0.2
"""Before opening a stream again that was closed in good order although the job goes on (a gateway's restart)."""


@dataclass
class _Draft:
    """The fields of the event being read."""

    id: str = ""
    event: str = "message"
    data: list[str] = field(default_factory=list)


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream's lines; an event cut off by the end of the stream is dropped, as the standard says."""
    draft = _Draft()
    for line in lines:
        if not line:
            if draft.data:
                yield _event(draft)
            draft = _Draft(id=draft.id)
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            draft.data.append(value)
        elif name == "event":
            draft.event = value
        elif name == "id":
            draft.id = value


def _event(draft: _Draft) -> Event:
    data: dict[str, Any] = json.loads("\n".join(draft.data))
    return Event(id=draft.id, type=draft.event, data=data)


def follow(connection: Connection, job_id: str, after: str | None, is_final: Callable[[], bool]) -> Iterator[Event]:
    """Every event after `after`, each once, until the job is final.

    A broken connection is opened again from the last event seen, for as long as the connection's patience lasts
    without a single event. `is_final` tells a stream that ended from one that was cut cleanly.
    """
    tries = pauses(connection.patience_s)
    while True:
        try:
            for event in _once(connection, job_id, after):
                after = event.id
                tries = pauses(connection.patience_s)
                yield event
        except (httpx.TransportError, TooMany, Unavailable) as failure:
            pause = next(tries)
            if pause is None:
                raise _given_up(connection, failure) from failure
            time.sleep(getattr(failure, "retry_after_s", None) or pause)
        else:
            if is_final():
                return
            time.sleep(CUT_PAUSE_S)


def _once(connection: Connection, job_id: str, after: str | None) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
    timeout = httpx.Timeout(connection.timeout_s, read=READ_TIMEOUT_S)
    with connection.stream(f"/v1/jobs/{job_id}/events", headers, timeout) as response:
        yield from parse(response.iter_lines())


def _given_up(connection: Connection, failure: Exception) -> Exception:
    return Unreachable(connection.url, reason(failure)) if isinstance(failure, httpx.TransportError) else failure
