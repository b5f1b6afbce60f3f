"""What scripted agents say: one sentence each, proposing the month's threshold, in one round; no model is asked.

The discussion follows the harvest. The moderator reports everyone's grant; then each agent present speaks once, in
order, as far as `max_conversation_steps` (the report counted) allows, and the last one ends it. The agreed limit is the
proposal. With `report` individual every sentence opens with the speaker's own grant instead; with none nobody reports.
"""

from dataclasses import dataclass

from shared.jobs.catalog.govsim import Scenario, SimulateParams

UNITS: dict[Scenario, str] = {"fishery": "tons of fish", "pasture": "flocks", "pollution": "pallets of widgets"}
TAKING: dict[Scenario, str] = {"fishery": "caught", "pasture": "grazed", "pollution": "produced"}
FRAMEWORK = "framework"  # the log's agent_id of what no agent says
MODERATOR = "Mayor"


@dataclass(frozen=True)
class Talk:
    """The discussion rules of one condition."""

    scenario: Scenario
    is_held: bool
    report: str  # moderator | individual | none
    max_steps: int  # utterances, the report included

    def speakers(self, present: int) -> int:
        """How many agents, of those present, get to speak in a round: as many utterances of agents a month has."""
        return min(present, self.max_steps - (self.report == "moderator")) if self.is_held else 0

    def report_sentence(self, names: list[str], granted: list[int]) -> str:
        """The moderator's report: one sentence per agent with its grant, never its demand."""
        return " ".join(self._own(name, units) for name, units in zip(names, granted, strict=True))

    def sentence(self, name: str, granted: int, limit: int) -> str:
        """What an agent says."""
        proposal = f"I propose that nobody takes more than {limit} {UNITS[self.scenario]} a month."
        return f"{self._own(name, granted)} {proposal}" if self.report == "individual" else proposal

    def summary(self, limit: int) -> str:
        """What was agreed, in one sentence."""
        return f"The group agreed that nobody takes more than {limit} {UNITS[self.scenario]} a month."

    def _own(self, name: str, units: int) -> str:
        return f"{name} {TAKING[self.scenario]} {units} {UNITS[self.scenario]}."


def talk_of(params: SimulateParams) -> Talk:
    """The discussions of a condition."""
    return Talk(params.scenario, params.communication, params.report, params.max_conversation_steps)
