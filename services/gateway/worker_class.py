"""Gunicorn's own refusals (a request line it can't parse, headers too large) as problems like all others.

They happen before Flask sees the request, and gunicorn would answer them with a page of HTML.
"""

import json
import secrets
from http import HTTPStatus
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


class ProblemWorker(ThreadWorker):  # type: ignore[misc]
    """The threaded worker, with problems for what it refuses itself."""

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
