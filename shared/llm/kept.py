"""A stored reply is never asked again: paid calls survive kills, retries and changes of worker."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from shared.jobs.context import JobContext
from shared.llm.chat import ChatCall, ChatModel, Reply

TIMING = "model_call"
"""The name of a call's latency in `timings.jsonl`, in seconds; the line's key is the call's."""
SECONDS = "seconds"
"""A call's latency in its stored reply."""


@dataclass
class Counts:
    """What went through a model so far in this attempt."""

    asked: int = 0
    """Calls that the model answered now."""
    kept: int = 0
    """Calls whose stored reply was found."""
    tokens_in: int = 0
    """Of asked and kept calls together, so that a resumed phase counts what the first attempt would have."""
    tokens_out: int = 0


class _Arrived(NamedTuple):
    """A reply on its way into the store."""

    data: bytes
    stored: asyncio.Future[bytes]


class KeptReplies:
    """Any ChatModel with a memory: each reply is stored when it arrives, before it is used.

    A reply is stored under the call's key and a digest of all that was asked, so a call whose prompt or sampling
    differs (another version of the method) is another call.
    """

    def __init__(self, model: ChatModel, ctx: JobContext) -> None:
        self._model, self._ctx = model, ctx
        # A reply that has come and isn't stored yet is lost in a kill like one in flight: both count to the limit.
        self._slots: AbstractAsyncContextManager[Any] = getattr(model, "slots", None) or nullcontext()
        self.counts = Counts()
        self._arrived: dict[str, _Arrived] = {}
        self._storing: asyncio.Task[None] | None = None
        self._timed: set[str] = set()

    @property
    def prefill(self) -> bool:
        return self._model.prefill

    async def reply(self, call: ChatCall) -> Reply:
        name = stored_name(call)
        kept = self._ctx.kept_reply(name)
        if kept is None:
            kept = await self._ask(call, name)
            self.counts.asked += 1
        else:
            self.counts.kept += 1
        reply = self._read(kept, name)
        self.counts.tokens_in += reply.tokens_in
        self.counts.tokens_out += reply.tokens_out
        return reply

    def _read(self, data: bytes, name: str) -> Reply:
        """A stored reply. How long it took is told once, whichever attempt it came in."""
        stored = json.loads(data)
        if name not in self._timed and SECONDS in stored:
            self._timed.add(name)
            self._ctx.timing(TIMING, stored[SECONDS], key=stored["key"])
        return Reply(stored["text"], stored["tokens_in"], stored["tokens_out"], stored["finish_reason"])

    async def _ask(self, call: ChatCall, name: str) -> bytes:
        async with self._slots:
            started = time.monotonic()
            reply = await self._model.reply(call)
            seconds = time.monotonic() - started
            data = json.dumps({"key": call.key, **asdict(reply), SECONDS: seconds}, ensure_ascii=False).encode()
            return await self._stored(name, data)

    async def _stored(self, name: str, data: bytes) -> bytes:
        """Wait until a reply is durable; what arrives during one write shares the next."""
        arrived = self._arrived.setdefault(name, _Arrived(data, asyncio.get_running_loop().create_future()))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store())
        return await asyncio.shield(arrived.stored)  # stored all the same when its caller is cancelled

    async def _store(self) -> None:
        while self._arrived:
            batch, self._arrived = self._arrived, {}
            try:
                standing = await asyncio.to_thread(self._ctx.keep_replies, _data(batch))
            except asyncio.CancelledError:  # that write goes on in its thread; what came since must not be lost
                self._ctx.keep_replies(_data(self._arrived))
                raise
            except Exception as error:  # the callers' to see
                for arrived in batch.values():
                    arrived.stored.set_exception(error)
            else:
                for name, arrived in batch.items():
                    arrived.stored.set_result(standing[name])


def _data(batch: Mapping[str, _Arrived]) -> dict[str, bytes]:
    return {name: arrived.data for name, arrived in batch.items()}


def stored_name(call: ChatCall) -> str:
    """What a call's reply is stored under: `<key>#<digest of messages and sampling>`."""
    asked = [call.messages, call.temperature, call.top_p, call.max_tokens, call.seed, call.stop]
    return f"{call.key}#{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]}"
