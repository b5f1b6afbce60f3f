"""Asking models: one question, its reply read, asked once more where the reply can't be read, every reply on record.

`Interview.ask` is the entry point. It never raises for what a model says: what can't be read falls back to a default,
which is counted. A model that can't be reached raises Retryable.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall, ChatModel, Message, Reply
from workers.govsim.parsing import Parser
from workers.govsim.prompts import Prompt

T = TypeVar("T")
Replies = Sequence[str]
"""All replies to one question so far; the first one answers the prompt, others a request to complete it."""


class Repair(NamedTuple):
    """How what a reply lacks is asked for: as a message, or by the label that a back end goes on from."""

    message: str
    label: str = ""


class Voice(NamedTuple):
    """Who answers: a model and how it is read."""

    ref: Ref
    model: ChatModel
    parser: Parser


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn."""

    temperature: float
    top_p: float
    seed: int  # the job's


@dataclass(frozen=True)
class Question(Generic[T]):
    """One thing asked. `name` tells it apart within its run and month for ever; a stored reply is found by it."""

    kind: str
    name: str
    prompt: Prompt
    max_tokens: int
    read: Callable[[Replies], T | None]
    fallback: Callable[[Replies], T]
    repair: Callable[[Replies], Repair | None]  # of a reply that can't be read; None: give up
    agent: int | None = None  # None: the framework's
    place: tuple[int, ...] = (0,)  # in its phase's transcript, whatever answers first


@dataclass
class Counts:
    """What a run asked."""

    questions: int = 0
    fallbacks: int = 0
    harvests: int = 0
    harvest_fallbacks: int = 0
    model_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, other: "Counts") -> None:
        """Sum up."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def fallback_rate(self) -> float | None:
        """Share of questions that ended in a default; None where nothing was asked."""
        return self.fallbacks / self.questions if self.questions else None

    def is_invalid(self, max_rate: float) -> bool:
        """Too many defaults, over all or among the harvests: a harvest nobody read looks like restraint."""
        harvests = self.harvest_fallbacks / self.harvests if self.harvests else 0.0
        return max(harvests, self.fallback_rate or 0.0) > max_rate


@dataclass
class Interview:
    """Questions asked together: those of one run in one phase of a month, or those of a test."""

    prefix: str  # of the keys of its calls
    about: Mapping[str, Any]  # what each record says first: run, month, phase
    names: Sequence[str]
    sampling: Sampling
    counts: Counts = field(default_factory=Counts)
    _records: list[tuple[tuple[int, ...], dict[str, Any]]] = field(default_factory=list)

    def key(self, name: str) -> str:
        """The call key of a question of that name."""
        return f"{self.prefix}/{name}"

    async def ask(self, voice: Voice, question: Question[T]) -> T:
        """The question's answer, or its default."""
        replies: list[str] = []
        messages = _opened(question.prompt, voice.model)
        while True:
            reply, record = await self._call(voice, question, messages, len(replies))
            replies.append(reply.text)
            value = question.read(replies)
            record["parsed"] = _plain(value)
            repair = question.repair(replies) if value is None else None
            if repair is None:
                return self._conclude(question, replies, value, record)
            messages = _continued(messages, reply.text, repair, voice.model)

    def _conclude(self, question: Question[T], replies: list[str], value: T | None, record: dict[str, Any]) -> T:
        record["fallback"] = value is None
        self.counts.questions += 1
        self.counts.fallbacks += value is None
        if question.kind == "harvest":
            self.counts.harvests += 1
            self.counts.harvest_fallbacks += value is None
        if value is not None:
            return value
        value = question.fallback(replies)
        record["parsed"] = _plain(value)
        return value

    async def _call(
        self, voice: Voice, question: Question[T], messages: tuple[Message, ...], attempt: int
    ) -> tuple[Reply, dict[str, Any]]:
        key = self.key(question.name) + (f"/again{attempt}" if attempt else "")
        s = self.sampling
        seed = seed_of(s.seed, key)
        reply = await voice.model.reply(ChatCall(key, messages, s.temperature, s.top_p, question.max_tokens, seed))
        self.counts.model_calls += 1
        self.counts.tokens_in += reply.tokens_in
        self.counts.tokens_out += reply.tokens_out
        record = self._record(key, voice, question, messages, reply)
        self._records.append(((*question.place, attempt), record))
        return reply, record

    def _record(
        self, key: str, voice: Voice, question: Question[T], messages: tuple[Message, ...], reply: Reply
    ) -> dict[str, Any]:
        agent = question.agent
        return {
            "key": key,
            **self.about,
            "kind": question.kind,
            "agent": agent,
            "name": None if agent is None else self.names[agent],
            "model": str(voice.ref),
            "messages": [message._asdict() for message in messages],
            "reply": reply.text,
            "parsed": None,
            "fallback": False,
            "finish_reason": reply.finish_reason,
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
        }

    def records(self) -> list[dict[str, Any]]:
        """The transcript of the phase, in an order that no interleaving of answers changes."""
        return [record for _, record in sorted(self._records, key=lambda placed: placed[0])]


def seed_of(seed: int, key: str) -> int:
    """The seed of a call: a function of the job's seed and the call's key, 31 bits."""
    digest = hashlib.blake2b(key.encode(), key=seed.to_bytes(4, "big"), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFFFFFF


def sampling_of(params: SimulateParams) -> Sampling:
    """How a condition's replies are drawn."""
    return Sampling(params.temperature, params.top_p, params.seed)


def _opened(prompt: Prompt, model: ChatModel) -> tuple[Message, ...]:
    """The prompt, and where the back end goes on from it the opened turn of the assistant."""
    user = Message("user", prompt.text)
    return (user, Message("assistant", prompt.opening)) if prompt.opening and model.prefill else (user,)


def _continued(messages: tuple[Message, ...], reply: str, repair: Repair, model: ChatModel) -> tuple[Message, ...]:
    """The conversation with a request to complete the reply.

    A back end that goes on from an opened turn is given the reply with the missing label below it: the model ended that
    turn itself, and without the label it would end it again. After a blank reply the prompt is asked again with the
    request.
    """
    opening = messages[-1].content if messages[-1].role == "assistant" else ""
    before = messages[:-1] if opening else messages
    said = f"{opening}{reply}".strip()
    if not reply.strip():
        asked = (*before[:-1], Message("user", f"{before[-1].content}\n\n{repair.message}"))
        return (*asked, Message("assistant", repair.label)) if repair.label and model.prefill else asked
    if repair.label and model.prefill:
        return (*before, Message("assistant", f"{said}\n{repair.label}"))
    return (*before, Message("assistant", said), Message("user", repair.message))


def _plain(value: Any) -> Any:
    """As JSON."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
