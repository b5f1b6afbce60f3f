"""At home: what an agent concludes from its memories, and stores as thoughts.

The focal point is the harvest. Without communication nothing is left to reflect on when the month's events have been
forgotten, so no model is asked.
"""

from workers.govsim.agents import Agent, Mind
from workers.govsim.asking import Interview
from workers.govsim.clock import Month
from workers.govsim.together import all_of

FOCAL_POINT = "harvesting"


async def reflect(agent: Agent, mind: Mind, interview: Interview, month: Month) -> None:
    """Insights on the memories of an agent, rated and stored in order."""
    memories = await mind.recall(agent.memory, month.home, [FOCAL_POINT], mind.top_k.reflect)
    if not memories:
        return
    question = mind.questions.insights(agent.voice.parser, agent.number, memories)
    insights = await interview.ask(agent.voice, question)
    for insight in insights:
        mind.encoder.begin(insight)
    rated = [
        agent.rate(interview, mind, "thought", insight, (place, f"insight{place + 1}"))
        for place, insight in enumerate(insights)
    ]
    for insight, importance in zip(insights, await all_of(rated), strict=True):
        mind.store_thought(agent, insight, month.home, importance)
