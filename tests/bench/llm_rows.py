"""Rows of a measurement of calls to models: what our side of a call costs, and what batching a local model gains.

Contenders run one after another in every round, so that a busy machine slows all of them; a figure is the median over
rounds, its spread the smallest and largest. `python -m tests.bench.llm_rows [--quick]` prints the rows by themselves.
"""

import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall, ChatModel, Message
from shared.llm.kept import KeptReplies
from shared.llm.local import LocalChat
from shared.llm.models import open_models
from shared.settings import Settings
from tests.openai_server import server_process
from tests.tiny_model import save_tiny_model

ENDPOINT = Ref("endpoint:bench/model")
LOCAL = Ref("builtin:bench")
GOAL_MS = 2.0
AT_ONCE = 100
PROMPT = "word " * 1000  # a harvest prompt is about a thousand tokens
Row = dict[str, Any]
Timed = Callable[[], Awaitable[float]]


def _call(key: str, prompt: str = PROMPT, max_tokens: int = 185) -> ChatCall:
    return ChatCall(key, (Message("user", prompt),), 0.0, 1.0, max_tokens, seed=0)


# What our side of a call costs ----------------------------------------------------------------------------------------


def overhead_rows(quick: bool = False) -> list[Row]:
    """Milliseconds per call through client, reply store (durable) and timings, beside the bare bytes over one socket.

    The server answers at once, from a process of its own. The overhead is the difference; `ratio` says how often it
    fits into the goal of 2 ms. One call at a time pays a whole durable write and waits for a busy machine; of many at
    once, replies share their writes, and the processor time says what bounds them. The store lies where temporary
    files do: a slow disk shows.
    """
    with tempfile.TemporaryDirectory() as folder, server_process("tests.openai_server:echo") as url:
        calls, rounds = (50, 3) if quick else (100, 7)
        measured = asyncio.run(_overheads(Path(folder), url, calls, rounds))
    one_at_a_time = ("client", "client and store")
    rows = [_overhead_row(f"{name}, one at a time", measured[name], measured["bare"]) for name in one_at_a_time]
    return [*rows, _processor_row(measured["together"])]


async def _overheads(folder: Path, url: str, calls: int, rounds: int) -> dict[str, list[float]]:
    entry = {"base_url": url, "max_in_flight": AT_ONCE}
    (folder / "endpoints.json").write_text(json.dumps({"bench": entry}))
    settings = Settings(data=folder / "data", endpoints=folder / "endpoints.json")
    ctx = LocalContext(folder / "out")
    async with open_models([ENDPOINT], ctx, settings) as models:
        model = models[ENDPOINT]
        contenders: dict[str, Timed] = {
            "bare": lambda: _bare_ms(url, calls),
            "client": lambda: _model_ms(model, calls),
            "client and store": lambda: _model_ms(KeptReplies(model, ctx), calls),
            "together": lambda: _processor_ms(KeptReplies(model, ctx), calls // 10),
        }
        measured = await _interleaved(contenders, rounds)
    ctx.close()
    return measured


async def _model_ms(model: ChatModel, calls: int) -> float:
    """Milliseconds per call, one at a time."""
    start = time.perf_counter()
    for n in range(calls):
        await model.reply(_call(f"{start}/{n}"))
    return (time.perf_counter() - start) / calls * 1e3


async def _processor_ms(model: ChatModel, each: int) -> float:
    """Milliseconds of processor time per call of so many callers at once."""

    async def caller(number: int) -> None:
        for n in range(each):
            await model.reply(_call(f"{start}/{number}/{n}"))

    start = time.process_time()
    await asyncio.gather(*map(caller, range(AT_ONCE)))
    return (time.process_time() - start) / (AT_ONCE * each) * 1e3


async def _bare_ms(url: str, calls: int) -> float:
    """Milliseconds per call of the same bytes over one open connection, with no library between."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = json.dumps({"messages": [{"role": "user", "content": PROMPT}]}).encode()
    head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    start = time.perf_counter()
    for _ in range(calls):
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.split(b"\r\n") if line.startswith(b"Content-Length"))
        await reader.readexactly(int(length.partition(b":")[2]))
    elapsed = time.perf_counter() - start
    writer.close()
    await writer.wait_closed()
    return elapsed / calls * 1e3


def _overhead_row(name: str, ours: list[float], bare: list[float]) -> Row:
    overhead = [mine - theirs for mine, theirs in zip(ours, bare, strict=True)]
    middle = statistics.median(overhead)
    return {
        "what": f"overhead per call: {name}", "ours": round(middle, 2), "peer": round(statistics.median(bare), 2),
        "peer_name": "the bare exchange", "unit": "ms", "ratio": round(GOAL_MS / middle, 2),
        "spread": f"overhead {min(overhead):.2f}–{max(overhead):.2f} ms, bare {min(bare):.2f}–{max(bare):.2f} ms "
                  f"({len(bare)} rounds)",
        "goal": 1.0,
    }  # fmt: skip


def _processor_row(ours: list[float]) -> Row:
    middle = statistics.median(ours)
    return {
        "what": f"processor time per call: client and store, {AT_ONCE} at once", "ours": round(middle, 2),
        "peer": GOAL_MS, "peer_name": "the goal", "unit": "ms", "ratio": round(GOAL_MS / middle, 2),
        "spread": f"{min(ours):.2f}–{max(ours):.2f} ms ({len(ours)} rounds)", "goal": 1.0,
    }  # fmt: skip


# What batching gains --------------------------------------------------------------------------------------------------


def local_batching_rows(quick: bool = False) -> list[Row]:
    """Requests per second of a local model with 1, 5, 20 and 40 callers, beside transformers' `generate` one by one.

    The model is a decoder of 7 million random weights, 100 tokens in and 8 out: what it costs is real, what it says is
    not.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_model(Path(folder) / "model", width=320, layers=8)
        measured = asyncio.run(_batched(Path(folder), rounds=2 if quick else 5))
    serial = measured.pop("serial")
    return [_batching_row(name, rates, serial) for name, rates in measured.items()]


async def _batched(folder: Path, rounds: int) -> dict[str, list[float]]:
    ctx = LocalContext(folder / "out", {LOCAL: folder / "model"})
    async with open_models([LOCAL], ctx, Settings(data=folder / "data")) as models:
        chat = models[LOCAL]
        assert isinstance(chat, LocalChat)
        contenders: dict[str, Timed] = {"serial": lambda: _library_rate(chat, 10)}
        for callers in (1, 5, 20, 40):
            contenders[f"{callers} callers"] = lambda callers=callers: _rate(chat, callers)
        measured = await _interleaved(contenders, rounds)
    ctx.close()
    return measured


def _local_call(n: int) -> ChatCall:
    return _call(f"call/{n}", "a b c d e f g h " * 12, max_tokens=8)  # 96 words, and 3 of the template


async def _rate(chat: LocalChat, callers: int) -> float:
    """Requests per second of so many callers, each asking again when it is answered."""
    each = max(2, 40 // callers)

    async def caller(number: int) -> None:
        for n in range(each):
            await chat.reply(_local_call(number * each + n))

    start = time.perf_counter()
    await asyncio.gather(*map(caller, range(callers)))
    return callers * each / (time.perf_counter() - start)


async def _library_rate(chat: LocalChat, requests: int) -> float:
    """Requests per second of transformers' `generate`, one by one."""
    loaded = chat.loaded

    def generate() -> None:
        for n in range(requests):
            ids = torch.tensor([loaded.encode(_local_call(n))])
            with torch.inference_mode():
                loaded.model.generate(ids, do_sample=False, max_new_tokens=8, pad_token_id=0)

    start = time.perf_counter()
    await asyncio.to_thread(generate)
    return requests / (time.perf_counter() - start)


def _batching_row(name: str, ours: list[float], serial: list[float]) -> Row:
    mine, theirs = statistics.median(ours), statistics.median(serial)
    return {
        "what": f"local model: {name}", "ours": round(mine, 1), "peer": round(theirs, 1),
        "peer_name": "transformers generate, one by one", "unit": "requests/s", "ratio": round(mine / theirs, 2),
        "spread": f"ours {min(ours):.1f}–{max(ours):.1f}, peer {min(serial):.1f}–{max(serial):.1f} "
                  f"({len(ours)} rounds)",
        "goal": None,
    }  # fmt: skip


async def _interleaved(contenders: dict[str, Timed], rounds: int) -> dict[str, list[float]]:
    for run in contenders.values():  # once unmeasured: connections, caches
        await run()
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            gc.collect()
            measured[name].append(await run())
    return measured


def rows(quick: bool = False) -> list[Row]:
    """All of them."""
    return [*overhead_rows(quick), *local_batching_rows(quick)]


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
