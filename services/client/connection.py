"""The wire: one httpx client, problems turned into exceptions, calls repeated where repeating is safe."""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from services.client.errors import Problem, Unreachable, refusal

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between tries; the last one repeats."""


class Connection:
    """Sends requests to one cluster. `patience_s`: how long a call that is safe to repeat goes on trying."""

    def __init__(self, url: str, token: str | None, timeout_s: float, patience_s: float) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # trust_env=False: a proxy of the environment must not carry calls to a cluster on this machine.
        local = httpx.URL(self.url).host in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout_s, follow_redirects=True, trust_env=not local
        )

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, *, repeatable: bool | None = None, **request: Any) -> Any:
        """The decoded body of the answer; None when it has none."""
        response = self.send(method, path, repeatable=repeatable, **request)
        return response.json() if response.content else None

    def send(self, method: str, path: str, *, repeatable: bool | None = None, **request: Any) -> httpx.Response:
        """The answer, complete. Raises Unreachable or Refused."""
        safe = method in {"GET", "PUT", "DELETE"} if repeatable is None else repeatable
        for pause in pauses(self.patience_s if safe else 0.0):
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as failure:
                if pause is None:
                    raise Unreachable(self.url, reason(failure)) from failure
                time.sleep(pause)
            else:
                return checked(response)
        raise AssertionError("pauses() ends with None")

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], timeout: httpx.Timeout | None = None
    ) -> Iterator[httpx.Response]:
        """A GET whose body is read piece by piece. Raises Refused; httpx.TransportError when the connection breaks."""
        with self._http.stream("GET", path, headers=dict(headers), timeout=timeout or self.timeout_s) as response:
            if response.is_error:
                response.read()
            yield checked(response)


def pauses(patience_s: float) -> Iterator[float | None]:
    """How long to wait before each next try; None once patience has run out: that try was the last."""
    deadline = time.monotonic() + patience_s
    for tries in range(1_000_000):
        pause = BACKOFF_S[min(tries, len(BACKOFF_S) - 1)] * random.uniform(0.5, 1.5)
        if time.monotonic() + pause > deadline:
            break
        yield pause
    yield None


def checked(response: httpx.Response) -> httpx.Response:
    """The answer itself, or the problem it describes as an exception."""
    if not response.is_error:
        return response
    retry_after = response.headers.get("Retry-After", "")
    raise refusal(problem_of(response), float(retry_after) if retry_after.isdigit() else None)


def problem_of(response: httpx.Response) -> Problem:
    """The problem document of an answer; one made from the status where a proxy answered in other words."""
    try:
        return Problem.model_validate({"status": response.status_code, **response.json()})
    except (ValueError, TypeError, ValidationError):
        return Problem(status=response.status_code, title=response.reason_phrase or "error")


def reason(failure: httpx.TransportError) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(failure, httpx.ConnectError):
        return f"{failure}".removeprefix("[Errno 111] ") or "connection refused"
    if isinstance(failure, httpx.TimeoutException):
        return "it doesn't answer in time"
    return str(failure) or type(failure).__name__
