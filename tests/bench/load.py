"""Callers that keep their connections open and time each request."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Took(NamedTuple):
    wall_s: float
    each_ms: list[float]


@dataclass(frozen=True)
class Caller:
    """Posts one body again and again, with a new idempotency key each time where the server knows such."""

    port: int
    path: str
    body: dict[str, Any]
    has_key: bool = False

    def call(self, requests: int) -> list[float]:
        """Latencies in ms."""
        text = json.dumps(self.body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        took = []
        for _ in range(requests):
            headers = {"Content-Type": "application/json"}
            if self.has_key:
                headers["Idempotency-Key"] = uuid.uuid4().hex
            start = time.perf_counter()
            connection.request("POST", self.path, text, headers)
            answer = connection.getresponse()
            answer.read()
            took.append((time.perf_counter() - start) * 1000)
            assert answer.status == 202, answer.status
        connection.close()
        return took


def latencies(caller: Caller, callers: int, requests: int) -> Took:
    """So many requests, shared by so many callers at once."""
    each: list[float] = []
    threads = [threading.Thread(target=lambda: each.extend(caller.call(requests // callers))) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(each) == requests // callers * callers, "a caller failed"
    return Took(time.perf_counter() - start, each)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
