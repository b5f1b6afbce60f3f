"""An agent with a language model: it sees, decides, speaks, thinks and remembers (the paper's generative agent).

An agent's nodes are stored in a fixed order, so that the order in which models answer changes no memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from shared.jobs.catalog.govsim import SimulateParams
from shared.models.sentences import KeptVectors
from workers.govsim.asking import Interview, Voice
from workers.govsim.clock import Month
from workers.govsim.conversation import Conversation, Utterance
from workers.govsim.memory import QUERY_INSTRUCTION, Memory, Node, NodeType, Retrieval, in_order, retrieval_of, retrieve
from workers.govsim.prompts import Line, Told, prompts_of
from workers.govsim.questions import Questions
from workers.govsim.together import each_of


class TopK(NamedTuple):
    """How many memories come to mind, per occasion."""

    harvest: int
    utterance: int  # per focal point
    reflect: int


@dataclass(frozen=True)
class Mind:
    """What all agents of a condition have in common."""

    questions: Questions
    retrieval: Retrieval
    encoder: KeptVectors
    top_k: TopK
    thought_days: int
    rate_chats: bool

    async def recall(self, memory: Memory, now: datetime, focal_points: Sequence[str], k: int) -> list[Node]:
        """What comes to mind, the k best memories of each focal point."""
        candidates = memory.candidates(now)
        if len(candidates) <= k:  # all of them come to mind: nothing to compare
            return sorted(candidates, key=in_order)
        focal = [f"{QUERY_INSTRUCTION}{point}" for point in dict.fromkeys(focal_points)]
        vectors = await self.encoder.encode([*(node.text for node in candidates), *focal])
        embeddings, queries = vectors[: len(candidates)], vectors[len(candidates) :]
        return retrieve(candidates, embeddings, queries, k, self.retrieval)

    def store_event(self, agent: "Agent", text: str, created: datetime, expiration: datetime) -> None:
        """Events are always included."""
        agent.memory.store("event", text, (created, expiration))

    def store_thought(self, agent: "Agent", text: str, now: datetime, importance: int | None) -> None:
        """A thought lasts; without a rating it is always included. What nobody managed to say is not stored."""
        if text:
            agent.memory.store("thought", text, (now, now + timedelta(days=self.thought_days)), importance)

    def store_chat(self, agent: "Agent", text: str, now: datetime, importance: int) -> None:
        """A chat is remembered and never retrieved."""
        if text:
            agent.memory.store("chat", text, (now, now + timedelta(days=self.thought_days)), importance)


class Thoughts(NamedTuple):
    """What an agent made of a conversation."""

    planning: str
    interesting: str


@dataclass
class Agent:
    """One agent of one run."""

    number: int
    name: str
    voice: Voice
    memory: Memory = field(default_factory=Memory)

    def see(self, mind: Mind, month: Month, stock: str, threshold: int | None) -> None:
        """The month begins: the stock, and with universalization (a threshold) what too much would do."""
        scene = mind.questions.prompts.scene
        mind.store_event(self, stock, month.harvest, month.home)
        if threshold is not None:
            mind.store_event(self, scene.universalization(threshold), month.harvest, month.home)

    async def harvest(self, mind: Mind, interview: Interview, month: Month, left: int) -> int:
        """How much it wants."""
        focal_points = [mind.questions.prompts.scene.place]
        memories = await mind.recall(self.memory, month.harvest, focal_points, mind.top_k.harvest)
        told = Told(self.number, month.harvest, memories)
        return await interview.ask(self.voice, mind.questions.harvest(self.voice.parser, told, left))

    def learn(self, mind: Mind, month: Month, wanted: int, got: int) -> None:
        """Its own result."""
        text = mind.questions.prompts.scene.own_result(self.name, wanted, got)
        mind.store_event(self, text, month.result, month.home)

    async def speak(self, mind: Mind, interview: Interview, month: Month, conversation: Conversation) -> None:
        """Say something and name who speaks next, or end the conversation."""
        memories = await mind.recall(self.memory, month.discussion, conversation.focal_points, mind.top_k.utterance)
        told = Told(self.number, month.discussion, memories)
        parser = self.voice.parser
        question = mind.questions.utterance(parser, told, conversation.names, conversation.lines)
        said = await interview.ask(self.voice, question)
        utterance = Utterance(self.number, self.name, said.text or "", interview.key(question.name))
        conversation.say(utterance, bool(said.ends), said.next_speaker or 0)
        mind.encoder.begin(f"{QUERY_INSTRUCTION}{utterance.text}")

    async def think(self, mind: Mind, interview: Interview, said: Sequence[Line]) -> Thoughts:
        """What to remember for planning, and what was interesting."""
        parser, questions = self.voice.parser, mind.questions
        planning = interview.ask(self.voice, questions.planning(parser, self.number, said))
        interesting = interview.ask(self.voice, questions.interesting(parser, self.number, said))
        thoughts = Thoughts(*await each_of(planning, interesting))
        for text in thoughts:
            mind.encoder.begin(text)
        return thoughts

    async def remember(
        self, mind: Mind, interview: Interview, now: datetime, summary: str, thoughts: Thoughts, limit_text: str | None
    ) -> None:
        """Store a conversation: its summary, two thoughts, and an agreement if there is one."""
        rated = await each_of(
            self._rate_chat(mind, interview, summary),
            self.rate(interview, mind, "thought", thoughts.planning, (1, "planning")),
            self.rate(interview, mind, "thought", thoughts.interesting, (2, "interesting")),
        )
        mind.store_chat(self, summary, now, rated[0])
        mind.store_thought(self, thoughts.planning, now, rated[1])
        mind.store_thought(self, thoughts.interesting, now, rated[2])
        if limit_text is not None:
            mind.store_thought(self, limit_text, now, None)

    async def rate(self, interview: Interview, mind: Mind, type: NodeType, text: str, what: tuple[int, str]) -> int:
        """How important a text is to it; nobody is asked about an empty one."""
        if not text:
            return 1
        question = mind.questions.importance(self.voice.parser, self.number, type, text, what)
        return await interview.ask(self.voice, question)

    async def _rate_chat(self, mind: Mind, interview: Interview, summary: str) -> int:
        return await self.rate(interview, mind, "chat", summary, (0, "chat")) if mind.rate_chats else 1


def mind_of(params: SimulateParams, encoder: KeptVectors) -> Mind:
    """How agents of a condition think."""
    return Mind(
        Questions(prompts_of(params), params.max_tokens, params.max_tokens_rating),
        retrieval_of(params),
        encoder,
        TopK(params.top_k_harvest, params.top_k_utterance, params.top_k_reflect),
        params.thought_days,
        params.rate_chats,
    )
