"""Gunicorn's own refusals (a request line it can't parse, headers too large) as problems like all others.

They happen before Flask sees the request, and gunicorn would answer them with a page of HTML.
"""

import json
import secrets
import select
import time
from http import HTTPStatus
from math import inf
from typing import Any

from gunicorn.http.errors import (
    ForbiddenProxyRequest,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

STATUSES: list[tuple[type[Exception], HTTPStatus]] = [
    (LimitRequestLine, HTTPStatus.REQUEST_URI_TOO_LONG),
    (LimitRequestHeaders, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (UnsupportedTransferCoding, HTTPStatus.NOT_IMPLEMENTED),
    (ForbiddenProxyRequest, HTTPStatus.FORBIDDEN),
    (ParseException, HTTPStatus.BAD_REQUEST),
]
NAMES = {
    HTTPStatus.BAD_REQUEST: "malformed",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.REQUEST_URI_TOO_LONG: "too_long",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "too_long",
    HTTPStatus.NOT_IMPLEMENTED: "not_implemented",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
}

NOTIFY_S = 1.0
"""Far below the time after which gunicorn takes a silent process for dead."""

LINGER_MS = 5
"""How long a thread stays with a connection whose caller may go on."""


class ProblemWorker(ThreadWorker):  # type: ignore[misc]
    """The threaded worker, with problems for what it refuses itself."""

    notified = -inf

    def notify(self) -> None:
        """Tell the arbiter that this process lives: once a second, not with each event of each connection."""
        now = time.monotonic()
        if now - self.notified >= NOTIFY_S:
            self.notified = now
            super().notify()

    def handle(self, conn: Any) -> Any:
        """Answer a request, and in the same thread those that its caller sends right after it.

        Between two requests gunicorn hands a connection to its main thread and back, which costs about as much as
        parsing one; a caller that sends one after the other doesn't need that.
        """
        kept = super().handle(conn)
        while kept is True and self.alive and not conn.is_http2 and _sends_more(conn):
            kept = super().handle(conn)
        return kept

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer and let gunicorn close the connection."""
        status = next((status for kind, status in STATUSES if isinstance(exc, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        request_id = secrets.token_hex(8)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.exception("error outside the application (%s)", request_id)
        else:
            self.log.warning("refused before the application: %s (%s) from %s", type(exc).__name__, request_id, addr)
        try:
            client.sendall(refusal(status, str(exc), request_id))
        except OSError:
            self.log.debug("the client did not wait for its refusal")


def _sends_more(conn: Any) -> bool:
    """Whether a connection brings its next request at once."""
    if conn.parser.unreader.buf.getvalue():
        return True  # it came together with the last one
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(LINGER_MS))


def refusal(status: HTTPStatus, detail: str, request_id: str) -> bytes:
    """The whole answer."""
    body: dict[str, Any] = {"type": f"/problems/{NAMES[status]}", "title": status.phrase, "status": int(status)}
    if status is not HTTPStatus.INTERNAL_SERVER_ERROR:
        body["detail"] = detail[:300]
    text = json.dumps({**body, "instance": request_id}).encode()
    head = [
        f"HTTP/1.1 {int(status)} {status.phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(text)}",
        f"X-Request-Id: {request_id}",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + text
