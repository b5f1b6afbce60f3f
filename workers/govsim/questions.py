"""The questions of the simulation: each prompt with how its reply is read, repaired and replaced.

The defaults are the official code's: a demand of 0, no limit, a conversation that ends or goes on with the first
participant, an importance of 5, no thought, no insight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from workers.govsim.asking import Question, Repair, Replies
from workers.govsim.memory import Node, NodeType
from workers.govsim.parsing import NO_RATING, Limit, Parser, Said, merge
from workers.govsim.prompts import (
    ANSWER_LABEL,
    CONCLUSION_LABEL,
    FIRST_INSIGHT,
    RATING_LABEL,
    SPEAKER_LABEL,
    UTTERANCE_LABEL,
    Line,
    Prompt,
    Prompts,
    Told,
)

T = TypeVar("T")

# Rounds of a phase, the first part of a question's place in its transcript.
SPEAKING, CONCLUDING, RATING = 0, 1, 2
FRAMEWORK_PLACE = -1  # before the agents


@dataclass(frozen=True)
class Questions:
    """What the agents and the framework of a condition are asked."""

    prompts: Prompts
    max_tokens: int
    max_tokens_rating: int

    def harvest(self, parser: Parser, told: Told, left: int) -> Question[int]:
        """How much an agent wants of what is left."""
        units = self.prompts.scene.unit_words
        return Question(
            "harvest", f"harvest/agent{told.agent}", self.prompts.harvest(told, left), self.max_tokens,
            read=lambda replies: parser.harvest(replies[0], _second(replies), left, units),
            fallback=lambda replies: 0,
            repair=self._number_repair(parser),
            agent=told.agent,
            place=(SPEAKING, told.agent),
        )  # fmt: skip

    def utterance(self, parser: Parser, told: Told, present: Sequence[str], said: Sequence[Line]) -> Question[Said]:
        """What an agent says next."""
        step = len(said)
        return Question(
            "utterance", f"utterance/step{step}", self.prompts.utterance(told, present, said), self.max_tokens,
            read=lambda replies: _complete(_merged(parser, replies, present)),
            fallback=lambda replies: _defaulted(_merged(parser, replies, present)),
            repair=lambda replies: _utterance_repair(parser, replies, present),
            agent=told.agent,
            place=(SPEAKING, step),
        )  # fmt: skip

    def summary(self, parser: Parser, said: Sequence[Line]) -> Question[str]:
        """The conversation in one sentence."""
        prompt = self.prompts.summary(said)
        return self._sentence(parser, "summary", prompt, None)

    def limit(self, parser: Parser, said: Sequence[Line]) -> Question[Limit]:
        """What the conversation agreed."""
        units = self.prompts.scene.unit_words
        return Question(
            "limit", "limit", self.prompts.limit(said), self.max_tokens,
            read=lambda replies: parser.limit(replies[0], _second(replies), units),
            fallback=lambda replies: Limit(None),
            repair=self._number_repair(parser),
            place=(CONCLUDING, FRAMEWORK_PLACE, 1),
        )  # fmt: skip

    def planning(self, parser: Parser, agent: int, said: Sequence[Line]) -> Question[str]:
        """What to remember for planning."""
        return self._sentence(parser, "planning", self.prompts.planning(agent, said), agent)

    def interesting(self, parser: Parser, agent: int, said: Sequence[Line]) -> Question[str]:
        """What was interesting."""
        return self._sentence(parser, "interesting", self.prompts.interesting(agent, said), agent)

    def insights(self, parser: Parser, agent: int, memories: Sequence[Node]) -> Question[list[str]]:
        """What follows from memories, at most one insight per memory."""
        return Question(
            "insights", f"insights/agent{agent}", self.prompts.insights(agent, memories), self.max_tokens,
            read=lambda replies: parser.insights(replies[-1], len(memories)),
            fallback=lambda replies: [],
            repair=self._form_repair(
                parser, Repair("Answer once more, as a numbered list of insights.", FIRST_INSIGHT)
            ),
            agent=agent,
            place=(CONCLUDING, agent),
        )  # fmt: skip

    def importance(self, parser: Parser, agent: int, type: NodeType, text: str, what: tuple[int, str]) -> Question[int]:
        """How important a node is; `what` is its place and name among those the agent rates now."""
        return Question(
            "importance", f"importance/agent{agent}/{what[1]}", self.prompts.importance(agent, type, text),
            self.max_tokens_rating,
            read=lambda replies: parser.importance(replies[-1]),
            fallback=lambda replies: NO_RATING,
            repair=self._form_repair(
                parser, Repair(f"Answer with one number from 1 to 10, in this form:\n{RATING_LABEL} N", RATING_LABEL)
            ),
            agent=agent,
            place=(RATING, agent, what[0]),
        )  # fmt: skip

    def _sentence(self, parser: Parser, kind: str, prompt: Prompt, agent: int | None) -> Question[str]:
        index = {"summary": 0, "planning": 0, "interesting": 1}[kind]
        return Question(
            kind, kind if agent is None else f"{kind}/agent{agent}", prompt, self.max_tokens,
            read=lambda replies: parser.sentence(replies[-1]),
            fallback=lambda replies: "",
            repair=self._form_repair(parser, Repair("Answer with one full sentence.")),
            agent=agent,
            place=(CONCLUDING, FRAMEWORK_PLACE if agent is None else agent, index),
        )  # fmt: skip

    def _number_repair(self, parser: Parser) -> Callable[[Replies], Repair | None]:
        repair = number_repair(self.prompts.scene.unit)
        return lambda replies: repair if len(replies) == 1 and parser.asks_again(replies[0], True) else None

    @staticmethod
    def _form_repair(parser: Parser, repair: Repair) -> Callable[[Replies], Repair | None]:
        return lambda replies: repair if len(replies) == 1 and parser.asks_again(replies[0], False) else None


def number_repair(unit: str) -> Repair:
    """Asks for the number alone."""
    return Repair(f"Finish with the answer alone, in this form:\n{f'{ANSWER_LABEL} N {unit}'.rstrip()}", ANSWER_LABEL)


def _second(replies: Replies) -> str | None:
    return replies[1] if len(replies) > 1 else None


def _merged(parser: Parser, replies: Replies, names: Sequence[str]) -> Said:
    said = parser.utterance(replies[0], names)
    for again in replies[1:]:
        said = merge(said, again, parser, names)
    return said


def _complete(said: Said) -> Said | None:
    """An utterance that says all: a conclusion, or who speaks next."""
    return said if said.text is not None and _gap(said) is None else None


def _gap(said: Said) -> str | None:
    """What is missing first."""
    if said.ends is None:
        return CONCLUSION_LABEL
    return SPEAKER_LABEL if not said.ends and said.next_speaker is None else None


def _defaulted(said: Said) -> Said:
    """What nobody said: the conversation ends; the first participant speaks next."""
    return Said(said.text or "", said.ends is not False, said.next_speaker or 0)


def _utterance_repair(parser: Parser, replies: Replies, names: Sequence[str]) -> Repair | None:
    """Officially the conclusion, then the next speaker is asked for, each once; strictly what is missing at once."""
    said = _merged(parser, replies, names)
    gap = _gap(said)
    if parser.name == "strict":
        return _strict_repair(said, gap) if len(replies) == 1 else None
    first_gap = _gap(parser.utterance(replies[0], names))
    was_asked_for = len(replies) > 1 and gap == first_gap
    if gap is None or was_asked_for or len(replies) > 2:
        return None
    return Repair(f"Complete your answer, in this form:\n{gap}", gap)


def _strict_repair(said: Said, gap: str | None) -> Repair | None:
    form = f"{CONCLUSION_LABEL} yes or no\n{SPEAKER_LABEL} a name"
    if said.text is None:
        return Repair(f"Answer once more, in this form:\n{UTTERANCE_LABEL} what you say\n{form}", UTTERANCE_LABEL)
    return None if gap is None else Repair(f"Complete your answer, in this form:\n{form}", gap)
