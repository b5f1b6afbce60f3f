"""A real HTTP server on loopback that answers what a test tells it to, and remembers what it was asked."""

import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Answer:
    """One answer. `cut_after`: close the connection after so many bytes of the body; 0 before the status line."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()

    @property
    def media_type(self) -> str:
        if isinstance(self.body, bytes):
            return "application/octet-stream"
        return "application/json" if self.status < 400 else "application/problem+json"


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class ApiServer:
    """`on` says what a call is answered with: one answer after another, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                outer._serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = do

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *answers: Any) -> None:
        """An answer that is no `Answer` is a JSON body with status 200."""
        self._answers[method, path] = [given if isinstance(given, Answer) else Answer(given) for given in answers]

    def calls(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        content = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append(Asked(handler.command, address.path, parse_qs(address.query), headers, content))
        queue = self._answers.get((handler.command, address.path))
        answer = (queue.pop(0) if len(queue) > 1 else queue[0]) if queue else _unknown(handler.command, address.path)
        _send(handler, _ranged(answer, headers))


def _unknown(method: str, path: str) -> Answer:
    return Answer({"status": 404, "title": "not found", "detail": f"no answer set for {method} {path}"}, 404)


def _ranged(answer: Answer, headers: dict[str, str]) -> Answer:
    """Serve `Range: bytes=N-` of bytes that say they can (`Accept-Ranges`)."""
    asked_for = headers.get("range", "")
    if not asked_for or "Accept-Ranges" not in answer.headers:
        return answer
    start = int(asked_for.removeprefix("bytes=").removesuffix("-"))
    return Answer(answer.content[start:], 206, answer.headers, answer.cut_after)


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    if answer.cut_after == 0:
        handler.close_connection = True
        return
    handler.send_response(answer.status)
    headers = {"Content-Type": answer.media_type} | answer.headers
    if answer.status != 204:
        headers["Content-Length"] = str(len(answer.content))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(answer.content if answer.cut_after is None else answer.content[: answer.cut_after])
    handler.close_connection = handler.close_connection or answer.cut_after is not None


JOB: dict[str, Any] = {
    "id": "01J0000000000000000000TEST", "kind": "govsim.simulate", "kind_version": 1, "name": None, "labels": {},
    "owner": "local", "state": "queued", "priority": "normal", "params": {}, "attempt": 0, "losses": 0,
    "max_attempts": 3, "timeout_s": None, "waiting_for": [], "created_at": "2026-01-01T00:00:00Z", "started_at": None,
    "finished_at": None, "cancel_requested_at": None, "timings": {}, "progress": None, "result": None, "error": None,
    "artifacts": [], "worker": None,
}  # fmt: skip
"""A job as the contract shows it."""

ID = str(JOB["id"])


def job(**changes: Any) -> dict[str, Any]:
    return JOB | changes


def stream(*events: tuple[str, str, dict[str, Any]]) -> bytes:
    """(id, type, data) as the text of an event stream."""
    return b"".join(f"id: {i}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode() for i, kind, data in events)
