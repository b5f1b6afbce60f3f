"""A month's discussion, from the report to what everyone remembers of it.

Utterances follow one another. When it is over, summary, limit and everyone's thoughts are asked for together, and then
the importance of all that is to be stored. Agents without a model say their fixed sentence when it is their turn and
remember nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.agents import Agent, Mind
from workers.govsim.asking import Interview, Voice
from workers.govsim.clock import Month
from workers.govsim.conversation import Conversation, Utterance
from workers.govsim.talk import Talk, talk_of
from workers.govsim.together import all_of, each_of


class Harvested(NamedTuple):
    """What the discussion is about."""

    granted: list[int]  # of the agents present
    threshold: int  # thr; what scripted agents propose


class Outcome(NamedTuple):
    """What came of it."""

    conversation: Conversation
    summary: str
    limit: int | None


@dataclass(frozen=True)
class Discussion:
    """How a condition's societies discuss."""

    names: Sequence[str]
    talk: Talk
    mind: Mind
    framework: Voice

    async def hold(
        self, interview: Interview, month: Month, agents: Mapping[int, Agent], harvested: Harvested
    ) -> Outcome:
        """The discussion of one run's month; `agents` are those present that have a model."""
        conversation = await self._converse(interview, month, agents, harvested)
        said, parser = conversation.lines, self.framework.parser
        questions = self.mind.questions
        summary, limit, thoughts = await each_of(
            interview.ask(self.framework, questions.summary(parser, said)),
            interview.ask(self.framework, questions.limit(parser, said)),
            all_of(agent.think(self.mind, interview, said) for agent in agents.values()),
        )
        agreed = None if limit.units is None else questions.prompts.scene.agreed_limit(limit.units)
        await all_of(
            agent.remember(self.mind, interview, month.discussion, summary, own, agreed)
            for agent, own in zip(agents.values(), thoughts, strict=True)
        )
        return Outcome(conversation, summary, limit.units)

    async def _converse(
        self, interview: Interview, month: Month, agents: Mapping[int, Agent], harvested: Harvested
    ) -> Conversation:
        present = self.names[: len(harvested.granted)]
        conversation = Conversation(present, self.talk.max_steps)
        self._open(conversation, harvested.granted)
        while not conversation.is_over:
            agent = agents.get(conversation.speaker)
            if agent is None:
                self._say_scripted(conversation, harvested)
            else:
                await agent.speak(self.mind, interview, month, conversation)
        return conversation

    def _open(self, conversation: Conversation, granted: list[int]) -> None:
        """The moderator's report, or everyone's own."""
        scene = self.mind.questions.prompts.scene
        if self.talk.report == "moderator":
            conversation.report(scene.results(list(conversation.names), granted))
        elif self.talk.report == "individual":
            for agent, (name, units) in enumerate(zip(conversation.names, granted, strict=True)):
                conversation.said.append(Utterance(agent, name, scene.result(name, units)))

    def _say_scripted(self, conversation: Conversation, harvested: Harvested) -> None:
        """A fixed proposal; the next agent in order speaks then."""
        agent = conversation.speaker
        proposal = Talk(self.talk.scenario, True, "moderator", self.talk.max_steps)
        text = proposal.sentence(conversation.names[agent], harvested.granted[agent], harvested.threshold)
        utterance = Utterance(agent, conversation.names[agent], text)
        conversation.say(utterance, False, (agent + 1) % len(conversation.names))


def as_line(interview: Interview, outcome: Outcome) -> dict[str, Any]:
    """A discussion as `conversations.jsonl` holds it, with the keys of the prompts in the transcript."""
    return {
        "run": interview.about["run"],
        "month": interview.about["month"],
        "utterances": [
            {"agent": said.agent, "name": said.name, "text": said.text, "key": said.key}
            for said in outcome.conversation.said
        ],
        "summary": outcome.summary,
        "summary_key": interview.key("summary"),
        "limit": outcome.limit,
        "limit_key": interview.key("limit"),
    }


def discussion_of(params: SimulateParams, mind: Mind, framework: Voice) -> Discussion:
    """The discussions of a condition."""
    return Discussion(params.names, talk_of(params), mind, framework)
