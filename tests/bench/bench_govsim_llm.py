"""Talking societies against an endpoint that takes 50 ms, beside the same calls one after another, as officially.

    ./tenfold bench govsim_llm [--quick]

The endpoint is a real HTTP server in a process of its own; it answers every prompt in form, with 9 utterances and 2
insights per agent: 56 calls a month, 672 in twelve months. Like a model at temperature 0 it says the same to the same
question, so runs agree and a sentence is encoded once; where runs differ, each new sentence costs the encoder some
milliseconds of a core besides. Replies are stored durably, memories compared by `builtin:minilm`, all logs written: the
whole job. The serial contender sends the same requests through the same client, one at a time. Each round runs all
contenders one after another; a figure is the median over rounds, its spread the smallest and largest.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall, ChatModel, Message
from shared.llm.models import open_models
from shared.models.sentences import MINILM, Encoder, open_encoder
from shared.settings import Settings
from tests.bench.llm_rows import local_batching_rows, overhead_rows
from tests.openai_server import Request, server_process
from workers.govsim.asking import seed_of
from workers.govsim.jobs import talk_through

ENDPOINT = Ref("endpoint:bench/model")
LATENCY_S = 0.05
ROUNDS_A_MONTH = 14
TOGETHER = 20
GOAL_SERIAL, GOAL_TOGETHER = 3.0, 1.5
NAMES = ("John", "Kate", "Jack", "Emma", "Luke")
Row = dict[str, Any]


def polite(request: Request) -> str:
    """A script: an answer in form to every prompt, the same for every run."""
    _, month, kind, *rest = request.key.split("/")
    what = f"{kind} of {month}" + "".join(f", {part}" for part in rest)
    match kind:
        case "harvest":
            return f"The lake should last; this is the {what}.\nAnswer: 10 tons of fish"
        case "utterance":
            step = int(rest[0].removeprefix("step"))
            ends = "yes" if step == 9 else "no"
            return (
                f"Response: Let us keep to what lasts, says the {what}.\n"
                f"I conclude the conversation (yes/no): {ends}\nNext speaker: {NAMES[step % 5]}"
            )
        case "limit":
            return "They agreed on it.\nAnswer: 10 tons of fish"
        case "insights":
            return (
                f"1. Taking little lasts: {what} (because of 1)\n2. The others keep their word: {what} (because of 2)"
            )
        case "importance":
            return "Rating: 6"
    return f"A sentence about the {what}."


class Bench:
    """One endpoint, and jobs against it."""

    def __init__(self, folder: Path, url: str, months: int) -> None:
        self._folder, self._months, self._jobs = folder, months, 0
        entry = {"base_url": url, "max_in_flight": 400}
        (folder / "endpoints.json").write_text(json.dumps({"bench": entry}))
        self._settings = Settings(data=folder / "data", endpoints=folder / "endpoints.json")

    def job(self, runs: int) -> float:
        """Seconds of a whole job of so many runs."""
        self._jobs += 1
        folder = self._folder / f"job-{self._jobs}"
        ctx = LocalContext(folder)
        params = SimulateParams(policies={"type": "llm", "model": ENDPOINT}, months=self._months, runs=runs)
        encoder = open_encoder(Ref(MINILM), ctx, self._settings)  # kept warm, as workers do
        start = time.perf_counter()
        asyncio.run(self._talk(params, ctx, encoder))
        ctx.close()
        return time.perf_counter() - start

    async def _talk(self, params: SimulateParams, ctx: LocalContext, encoder: Encoder) -> None:
        async with open_models({ENDPOINT}, ctx, self._settings) as models:
            await talk_through(params, ctx, models, encoder)

    def serial(self) -> float:
        """Seconds of the first job's calls one after another, nothing stored, nothing remembered."""
        transcript = (self._folder / "job-1" / "transcript.jsonl").read_text().splitlines()
        calls = [_call(json.loads(line)) for line in transcript]
        start = time.perf_counter()
        asyncio.run(self._one_by_one(calls))
        return time.perf_counter() - start

    async def _one_by_one(self, calls: list[ChatCall]) -> None:
        ctx = LocalContext(self._folder / "serial")
        async with open_models({ENDPOINT}, ctx, self._settings) as models:
            model: ChatModel = models[ENDPOINT]
            for call in calls:
                await model.reply(call)
        ctx.release()


def _call(record: Mapping[str, Any]) -> ChatCall:
    messages = tuple(Message(**message) for message in record["messages"])
    return ChatCall(record["key"], messages, 0.0, 1.0, 8000, seed_of(42, record["key"]))


def society_rows(quick: bool = False) -> list[Row]:
    """One run beside its calls in serial order, and twenty runs beside one."""
    months, rounds = (2, 1) if quick else (12, 3)
    one: list[float] = []
    serial: list[float] = []
    many: list[float] = []
    with tempfile.TemporaryDirectory() as folder, server_process(f"{__name__}:polite", LATENCY_S) as url:
        bench = Bench(Path(folder), url, months)
        bench.job(1)  # once unmeasured: imports, weights
        for _ in range(rounds):
            one.append(bench.job(1))
            serial.append(bench.serial())
            many.append(bench.job(TOGETHER))
    least = months * ROUNDS_A_MONTH * LATENCY_S
    return [
        _row(
            f"{months} months, {months * 56} calls in {months * ROUNDS_A_MONTH} rounds (at least {least:.1f} s)",
            one, serial, "the same calls one after another", GOAL_SERIAL,
        ),
        _row(f"{TOGETHER} such runs together", many, one, "one run", 1 / GOAL_TOGETHER),
    ]  # fmt: skip


def _row(what: str, ours: list[float], peer: list[float], peer_name: str, goal: float) -> Row:
    mine, theirs = statistics.median(ours), statistics.median(peer)
    spread = f"ours {min(ours):.1f}–{max(ours):.1f}, peer {min(peer):.1f}–{max(peer):.1f} ({len(ours)} rounds)"
    return {
        "what": what, "ours": round(mine, 2), "peer": round(theirs, 2), "peer_name": peer_name, "unit": "s",
        "ratio": round(theirs / mine, 2), "spread": spread, "goal": round(goal, 2),
    }  # fmt: skip


def rows(quick: bool = False) -> list[Row]:
    """The table: societies, overhead per call, local batching."""
    return [*society_rows(quick), *overhead_rows(quick), *local_batching_rows(quick)]


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
