"""A real OpenAI-compatible HTTP server over sockets, for tests: scripted completions, and every way to misbehave.

with OpenAIServer(lambda request: "Answer: 10") as server:
    server.behave("run0/month1", Behaviour(status=429, headers={"Retry-After": "1"}), times=2)
    ...  # server.url, server.requests, server.counts["run0/month1/harvest/agent0"], server.most_at_once
"""

import asyncio
import importlib
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

CALL_HEADER = "x-tenfold-call"


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    key: str  # the call's key, from its header
    body: dict[str, Any]
    headers: Mapping[str, str]  # names in lower case
    connection: int  # which connection it came over
    at_s: float  # on the server's loop clock

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Behaviour:
    """How to treat a request, if not with the scripted completion."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "no"  # of an error
    raw: bytes | None = None  # sent as the body in place of JSON
    delay_s: float = 0.0
    drop: bool = False  # close the connection without an answer
    truncate: int | None = None  # this many characters of the reply, finish_reason "length"
    without_usage: bool = False


@dataclass
class _Rule:
    prefix: str
    behaviour: Behaviour
    left: int | None  # None: for ever


class OpenAIServer:
    """Serves `POST /v1/chat/completions` on 127.0.0.1 from a thread. A context manager."""

    def __init__(self, script: Callable[[Request], str], delay_s: float = 0.0, port: int = 0) -> None:
        self._script, self._delay_s, self._port = script, delay_s, port
        self.requests: list[Request] = []
        self.counts: Counter[str] = Counter()
        """Requests by call key, answered or not."""
        self.answered: Counter[str] = Counter()
        """Completions sent whole, by call key."""
        self.at_once = 0
        self.most_at_once = 0
        self.connections = 0
        self._rules: list[_Rule] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    @property
    def url(self) -> str:
        """The base_url of its endpoint entry."""
        return f"http://127.0.0.1:{self._port}/v1"

    def behave(self, prefix: str, behaviour: Behaviour, times: int | None = None) -> None:
        """Treat requests whose call key begins so in this way, as many times; the first rule that fits holds."""
        self._rules.append(_Rule(prefix, behaviour, times))

    def well_behaved(self) -> None:
        """Forget every rule."""
        self._rules.clear()

    # The server's thread ------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._exchange(reader, writer, number):
                    pass
        except asyncio.CancelledError:
            pass  # the server stops
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        """One request and its answer; False when the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        request = Request(headers.get(CALL_HEADER, ""), body, headers, connection, self._loop.time())
        self.requests.append(request)
        self.counts[request.key] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            behaviour = self._behaviour(request.key)
            await asyncio.sleep(behaviour.delay_s or self._delay_s)
        finally:
            self.at_once -= 1
        if behaviour.drop:
            return False
        if head[0].split()[1] != "/v1/chat/completions":
            behaviour = Behaviour(404, message="no such path")
        await self._answer(writer, behaviour, request)
        return True

    async def _answer(self, writer: asyncio.StreamWriter, behaviour: Behaviour, request: Request) -> None:
        if behaviour.raw is not None:
            payload = behaviour.raw
        elif behaviour.status != 200:
            payload = json.dumps({"error": {"message": behaviour.message}}).encode()
        else:
            payload = json.dumps(self._completion(request, behaviour)).encode()
            self.answered[request.key] += 1
        lines = [f"HTTP/1.1 {behaviour.status} Scripted", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(payload)}", *(f"{name}: {value}" for name, value in behaviour.headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        await writer.drain()

    def _completion(self, request: Request, behaviour: Behaviour) -> dict[str, Any]:
        text = self._script(request)
        finish = "stop"
        if behaviour.truncate is not None:
            text, finish = text[: behaviour.truncate], "length"
        completion: dict[str, Any] = {
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion",
            "model": request.body.get("model"),
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        }
        if not behaviour.without_usage:
            words = sum(len(message["content"].split()) for message in request.body["messages"])
            completion["usage"] = {"prompt_tokens": words, "completion_tokens": len(text.split())}
        return completion

    def _behaviour(self, key: str) -> Behaviour:
        for rule in self._rules:
            if key.startswith(rule.prefix) and rule.left != 0:
                rule.left = None if rule.left is None else rule.left - 1
                return rule.behaviour
        return Behaviour()


@contextmanager
def server_process(script: str, delay_s: float = 0.0) -> Iterator[str]:
    """A server in a process of its own, with the function `module:name` as its script; its base_url."""
    command = [sys.executable, "-m", "tests.openai_server", script, str(delay_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def echo(request: Request) -> str:
    """A script: says the prompt again."""
    return request.prompt


def _serve_by_hand(script: str, delay_s: str = "0", port: str = "0") -> None:
    module, _, name = script.partition(":")
    with OpenAIServer(getattr(importlib.import_module(module), name), float(delay_s), int(port)) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _serve_by_hand(*sys.argv[1:])
