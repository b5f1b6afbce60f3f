"""In-context DocRE through a chat model: the document, its entities with ids, the inventory, demonstrations.

The answer is JSON lines `{"h": …, "t": …, "r": …}`. What names no entity or no relation is counted and dropped.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shared.jobs.catalog.docre.evaluation import Prf
from shared.jobs.catalog.docre.prompting import LlmParams, LlmResult
from shared.jobs.context import JobContext
from shared.llm.chat import ChatCall, ChatModel, Message, Reply
from shared.llm.kept import KeptReplies
from shared.metrics.relations import Key, Prediction, judge, score
from shared.relations.documents import Document, Triple, read_documents
from shared.relations.text import detokenise
from workers.docre.pairs import require_labels
from workers.docre.training import read_inventory

LOOK_S = 1.0
SYSTEM = (
    "You extract relations between the numbered entities of a document. Answer only with one JSON object per line: "
    '{"h": <head id>, "t": <tail id>, "r": "<relation id>"}. Use only ids that are given. Give every relation that the '
    "document states or clearly implies, and nothing else. If there is none, answer NONE."
)


class Parsed(NamedTuple):
    """What an answer says, and what of it was dropped."""

    triples: list[Triple]
    dropped: Counter[str]


def prompt(document: Document, inventory: Mapping[str, str], demonstrations: Sequence[Document]) -> tuple[Message, ...]:
    """The inventory once, then each demonstration with its answer, then the document."""
    relations = "\n".join(f"{relation}: {name}" for relation, name in sorted(inventory.items()))
    messages = [Message("system", f"{SYSTEM}\n\nRelations:\n{relations}")]
    for shown in demonstrations:
        messages += [Message("user", describe(shown)), Message("assistant", answer_of(shown, inventory))]
    return (*messages, Message("user", describe(document)))


def describe(document: Document) -> str:
    """Text, and each entity with id, type and names."""
    text = " ".join(detokenise(sentence).text for sentence in document.sentences)
    entities = "\n".join(
        f"{n} ({document.entity_type(n)}): {' / '.join(dict.fromkeys(mention.name for mention in entity))}"
        for n, entity in enumerate(document.entities)
    )
    return f"Document: {document.title}\n{text}\n\nEntities:\n{entities}"


def answer_of(document: Document, inventory: Mapping[str, str]) -> str:
    lines = [json.dumps({"h": h, "t": t, "r": r}) for h, t, r in sorted(document.triples) if r in inventory]
    return "\n".join(lines) or "NONE"


def parse(text: str, entities: int, inventory: Mapping[str, str]) -> Parsed:
    """Every object in the answer, wherever it stands; each triple once."""
    found: dict[Triple, None] = {}
    dropped: Counter[str] = Counter()
    for piece in re.findall(r"\{[^{}]*\}?", text):
        try:
            value: dict[str, Any] = json.loads(piece)
        except ValueError:
            dropped["unreadable"] += 1
            continue
        h, t, r = (value.get(key) for key in ("h", "t", "r"))
        if not (_is_entity(h, entities) and _is_entity(t, entities)) or h == t:
            dropped["ids"] += 1
        elif r not in inventory:
            dropped["relations"] += 1
        else:
            found[Triple(int(h), int(t), str(r))] = None  # type: ignore[arg-type]
    return Parsed(list(found), dropped)


def _is_entity(value: object, entities: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < entities


class Prompting:
    """One `docre.llm` job; every reply is kept when it arrives."""

    def __init__(self, params: LlmParams, ctx: JobContext) -> None:
        self._params, self._ctx = params, ctx
        self._documents = read_documents(ctx.input(params.documents), f"documents ({params.documents})")
        self._inventory = read_inventory(ctx.input(params.relations), f"relations ({params.relations})")
        self._shown: list[Document] = []
        if params.demonstrations is not None:
            self._shown = read_documents(ctx.input(params.demonstrations), f"demonstrations ({params.demonstrations})")
            require_labels(self._shown, f"demonstrations ({params.demonstrations})")

    async def run(self, model: ChatModel) -> LlmResult:
        kept = KeptReplies(model, self._ctx)
        done = 0

        async def ask(number: int) -> Reply:
            nonlocal done
            reply = await kept.reply(self._call(number))
            done += 1
            self._ctx.progress(done, len(self._documents), "documents")
            return reply

        replies = await self._all([asyncio.ensure_future(ask(number)) for number in range(len(self._documents))])
        return self._conclude(replies, kept.counts.tokens_in, kept.counts.tokens_out)

    async def _all(self, asked: "list[asyncio.Future[Reply]]") -> list[Reply]:
        """Every reply; looks once in a while whether the job is to go on. The first failure ends all."""
        try:
            left = set(asked)
            while left:
                done, left = await asyncio.wait(left, timeout=LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
                for reply in done:
                    reply.result()
                self._ctx.check()
            return [reply.result() for reply in asked]
        finally:
            for reply in asked:
                reply.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _call(self, number: int) -> ChatCall:
        messages = prompt(self._documents[number], self._inventory, self._demonstrations(number))
        return ChatCall(
            f"document{number}", messages, self._params.temperature, 1.0, self._params.max_tokens, self._params.seed
        )

    def _demonstrations(self, number: int) -> list[Document]:
        """Drawn by seed and document; the document itself is never shown with its answer."""
        others = [shown for shown in self._shown if shown.title != self._documents[number].title]
        rng = random.Random(f"{self._params.seed} {number}")
        return rng.sample(others, min(self._params.k, len(others)))

    def _conclude(self, replies: Sequence[Reply], tokens_in: int, tokens_out: int) -> LlmResult:
        dropped: Counter[str] = Counter()
        predictions = []
        for document, reply in zip(self._documents, replies, strict=True):
            parsed = parse(reply.text, len(document.entities), self._inventory)
            dropped += parsed.dropped
            predictions += [Prediction(Key(document.title, *triple)) for triple in parsed.triples]
        official = [{"title": k.title, "h_idx": k.head, "t_idx": k.tail, "r": k.relation, "evidence": []}
                    for k in (prediction.key for prediction in predictions)]  # fmt: skip
        self._ctx.write_json("predictions.json", official)
        labelled = [document for document in self._documents if document.labels is not None]
        relation = Prf(**score(judge(predictions, labelled)).relation._asdict()) if labelled else None
        return LlmResult(
            documents=len(self._documents), predicted=len(predictions), invalid_ids=dropped["ids"],
            invalid_relations=dropped["relations"], unreadable=dropped["unreadable"],
            cut_off=sum(reply.finish_reason == "length" for reply in replies), relation=relation, tokens_in=tokens_in,
            tokens_out=tokens_out,
        )  # fmt: skip
