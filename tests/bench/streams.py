"""Five hundred callers who watch one job, from one process: plain asyncio streams, so that watching costs little."""

import asyncio
import http.client
import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple

from tests.bench.load import percentile

TOKENS = 10
HELD_BACK_S = 6.0  # the watched job waits so long behind another, while the streams open
LOOKS_PER_S = 20


class Watched(NamedTuple):
    opening_ms: float
    """From the first connection until all streams have begun."""
    delay_p50_ms: float
    delay_p99_ms: float
    get_p99_ms: float


def watch_ten_tokens(port: int, streams: int) -> Watched:
    """Every stream sees every token; delays from the method's saying to its arrival here.

    The looks begin when all streams are open: five hundred calls at once are a load of their own.
    """
    submit(port, "test.walk", {"steps": 1, "step_s": HELD_BACK_S})
    job = submit(port, "test.chatter", {"tokens": TOKENS, "every_s": 0.1})
    spawn = multiprocessing.get_context("spawn")  # a process of its own: this one's event loop is busy
    opened, done, said = spawn.Event(), spawn.Event(), spawn.SimpleQueue()
    looking = spawn.Process(target=_look, args=(port, job, said, opened, done))
    looking.start()
    try:
        opening_ms, delays = asyncio.run(_watch_all(port, job, streams, opened))
    finally:
        opened.set()
        done.set()
        looks = said.get()
        looking.join()
    assert len(delays) == streams * TOKENS, f"{len(delays)} tokens arrived"
    return Watched(opening_ms, percentile(delays, 50), percentile(delays, 99), percentile(looks, 99))


def submit(port: int, kind: str, params: dict[str, Any]) -> str:
    answer = call(port, "POST", "/v1/jobs", {"kind": kind, "params": params})
    return str(answer["id"])


def call(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status < 300, answer.read()
        return json.loads(answer.read())
    finally:
        connection.close()


def _look(port: int, job: str, said: "SimpleQueue[list[float]]", opened: Event, done: Event) -> None:
    """GET the job at a steady pace over one connection; at the end say how long each took, in ms."""
    looks = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    opened.wait()
    while not done.wait(1 / LOOKS_PER_S):
        start = time.perf_counter()
        connection.request("GET", f"/v1/jobs/{job}")
        connection.getresponse().read()
        looks.append((time.perf_counter() - start) * 1000)
    connection.close()
    said.put(looks)


async def _watch_all(port: int, job: str, streams: int, opened: Event) -> tuple[float, list[float]]:
    """Milliseconds until all were open, and each token's delay in each stream."""
    start, took, unopened = time.perf_counter(), [0.0], streams

    def begun() -> None:
        nonlocal unopened
        unopened -= 1
        if not unopened:
            took[0] = (time.perf_counter() - start) * 1000
            opened.set()

    seen = await asyncio.gather(*(_watch(port, job, begun) for _ in range(streams)))
    return took[0], [delay for delays in seen for delay in delays]


async def _watch(port: int, job: str, begun: Callable[[], None]) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    delays, is_token = [], False
    while True:
        line = await reader.readline()
        if not line or line == b"0\r\n":
            break
        if line.startswith(b"retry: "):
            begun()
        elif line.startswith(b"event: "):
            is_token = line.startswith(b"event: token")
        elif is_token and line.startswith(b"data: "):
            delays.append(time.time() * 1000 - json.loads(line[6:])["sent_ms"])
    writer.close()
    return delays
