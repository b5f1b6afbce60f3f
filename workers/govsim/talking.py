"""A society that talks, remembers and reflects, on the same commons as the scripted ones.

A month has three phases: harvest, discussion, home. Within a phase all runs of the job go on together, each as fast as
its models answer; between phases everything is written down and checkpointed. So a month costs 14 rounds of calls (1
harvest, up to 9 utterances, summary with limit and thoughts, their importances, insights, their importances), however
many runs there are. `TalkingSociety.run` is the entry point.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.jobs.catalog.govsim import Llm, SimulateParams
from workers.govsim.agents import Agent, Mind
from workers.govsim.asking import Counts, Interview, Voice, sampling_of
from workers.govsim.clock import Month
from workers.govsim.commons import commons_of, membership_of, threshold_rule_of
from workers.govsim.discussion import Discussion, Harvested, as_line
from workers.govsim.granting import grant
from workers.govsim.memory import Memory
from workers.govsim.policies import Report, Sight, demands
from workers.govsim.randomness import Draws, Ints, Purpose
from workers.govsim.reflection import reflect
from workers.govsim.together import all_of
from workers.govsim.trajectories import Trajectories

PHASES = ("harvest", "discussion", "home")


@dataclass
class TalkingRun:
    """One run's agents and what it asked so far."""

    row: int  # in the wave
    run: int  # number in the job
    agents: dict[int, Agent]  # those with a model
    counts: Counts = field(default_factory=Counts)


@dataclass
class Wave:
    """Runs that are simulated together, between two phases."""

    runs: list[TalkingRun]
    batch: Trajectories
    stock: Ints  # (runs,), R
    alive: list[int]  # rows that play this month
    month: int = 0  # 0-based
    phase: int = 0

    @property
    def is_over(self) -> bool:
        """Whether every run has ended."""
        return not self.alive or self.month >= self.batch.before.shape[1]


@dataclass(frozen=True)
class Written:
    """What a phase leaves: lines of artifacts, in an order that no interleaving changes."""

    transcript: list[dict[str, Any]]
    memory: list[dict[str, Any]]
    conversations: list[dict[str, Any]]


class TalkingSociety:
    """The rules by which a wave of runs lives."""

    def __init__(self, params: SimulateParams, mind: Mind, discussion: Discussion, voices: Mapping[int, Voice]) -> None:
        self._params, self._mind, self._discussion, self._voices = params, mind, discussion, voices
        self._commons, self._rule = commons_of(params), threshold_rule_of(params)
        self._membership, self._draws = membership_of(params), Draws(params.seed)
        self._sampling = sampling_of(params)

    def begin(self, first: int, runs: int) -> Wave:
        """A wave of runs in their first month."""
        numbers = np.arange(first, first + runs)
        batch = Trajectories.empty(numbers, self._params.months, self._params.agents)
        members = [TalkingRun(row, run, self._agents({})) for row, run in enumerate(numbers.tolist())]
        return Wave(members, batch, np.full(runs, self._commons.start), list(range(runs)))

    def resume(self, wave: Wave, memories: Mapping[tuple[int, int], Memory]) -> None:
        """Give the agents of a wave back what they remembered; memories by run and agent."""
        for run in wave.runs:
            run.agents = self._agents({agent: memory for (of, agent), memory in memories.items() if of == run.run})

    def _agents(self, memories: Mapping[int, Memory]) -> dict[int, Agent]:
        return {
            number: Agent(number, self._params.names[number], voice, memories.get(number) or Memory())
            for number, voice in self._voices.items()
        }

    async def play_phase(self, wave: Wave) -> Written:
        """The next phase of all runs that are alive; afterwards the wave stands before the one that follows."""
        phase = PHASES[wave.phase]
        playing = [wave.runs[row] for row in wave.alive]
        known = {run.row: {number: len(agent.memory.nodes) for number, agent in run.agents.items()} for run in playing}
        interviews = [self._interview(run, wave.month + 1, phase) for run in playing]
        play = {"harvest": self._harvest, "discussion": self._discuss, "home": self._go_home}[phase]
        said = await all_of(play(wave, run, own) for run, own in zip(playing, interviews, strict=True))
        for run, interview in zip(playing, interviews, strict=True):
            run.counts.add(interview.counts)
        self._move_on(wave)
        return Written(
            [record for interview in interviews for record in interview.records()],
            [line for run in playing for line in _new_nodes(run, known[run.row])],
            [line for line in said if line is not None],
        )

    def _interview(self, run: TalkingRun, month: int, phase: str) -> Interview:
        about = {"run": run.run, "month": month, "phase": phase}
        return Interview(f"run{run.run}/month{month}", about, self._params.names, self._sampling)

    def _move_on(self, wave: Wave) -> None:
        """To the next phase; after the last one the runs that collapsed are over and the others' stock grows."""
        wave.phase += 1
        if wave.phase < len(PHASES):
            return
        after = wave.batch.after[:, wave.month]
        wave.alive = [row for row in wave.alive if not self._commons.has_collapsed(after[row])]
        wave.stock = self._commons.grow(after)
        wave.month, wave.phase = wave.month + 1, 0

    # Harvest --------------------------------------------------------------------------------------------------------

    async def _harvest(self, wave: Wave, run: TalkingRun, interview: Interview) -> None:
        month, stock = wave.month, int(wave.stock[run.row])
        threshold = int(self._rule.per_agent(np.array([stock]), month)[0])
        wave.batch.threshold[run.row, month] = threshold
        take = self._one_after_another if self._params.order == "sequential" else self._all_at_once
        wanted, granted = await take(wave, run, interview, stock)
        for number, agent in self._present_agents(run, month).items():
            agent.learn(self._mind, Month(month + 1), wanted[number], granted[number])
        present, batch = len(wanted), wave.batch
        batch.played[run.row] = month + 1
        batch.before[run.row, month], batch.after[run.row, month] = stock, stock - sum(granted)
        batch.demanded[run.row, month, :present] = wanted
        batch.granted[run.row, month, :present] = granted
        batch.limit[run.row, month] = -1

    async def _all_at_once(
        self, wave: Wave, run: TalkingRun, interview: Interview, stock: int
    ) -> tuple[list[int], list[int]]:
        """All demands first, then the grants."""
        present = range(self._membership.present(wave.month))
        wanted = await all_of(self._demand(wave, run, interview, agent, stock) for agent in present)
        numbers = np.array([run.run])
        granted = grant(
            np.array([wanted]), np.array([stock]), self._params.allocation, self._draws, numbers, wave.month
        )
        return wanted, granted[0].tolist()

    async def _one_after_another(
        self, wave: Wave, run: TalkingRun, interview: Interview, stock: int
    ) -> tuple[list[int], list[int]]:
        """Agents in a drawn order; each sees what is left and is granted at once."""
        agents = np.arange(self._membership.present(wave.month))
        keys = self._draws.uniform(Purpose.ORDER, np.array([[run.run]]), wave.month, agents[None, :])
        wanted, granted = [0] * len(agents), [0] * len(agents)
        for agent in np.argsort(keys[0], kind="stable").tolist():
            left = stock - sum(granted)
            wanted[agent] = await self._demand(wave, run, interview, agent, left)
            granted[agent] = min(wanted[agent], left)
        return wanted, granted

    async def _demand(self, wave: Wave, run: TalkingRun, interview: Interview, number: int, left: int) -> int:
        """What one agent asks for; of an empty stock nobody asks for anything."""
        if left == 0:
            return 0
        agent = run.agents.get(number)
        if agent is None:
            return self._scripted_demand(wave, run, number, left)
        month = Month(wave.month + 1)
        threshold = int(wave.batch.threshold[run.row, wave.month])
        scene, comes_first = self._mind.questions.prompts.scene, left == int(wave.stock[run.row])
        stock = scene.stock(left) if comes_first else scene.stock_left(left)
        agent.see(self._mind, month, stock, threshold if self._params.universalization else None)
        return await agent.harvest(self._mind, interview, month, left)

    def _scripted_demand(self, wave: Wave, run: TalkingRun, number: int, left: int) -> int:
        row, month, batch = run.row, wave.month, wave.batch
        last = None
        if month > 0:
            before = self._membership.present(month - 1)
            last = Report(batch.granted[[row], month - 1, :before], batch.threshold[[row], month - 1])
        sight = Sight(month, np.array([run.run]), np.array([left]), batch.threshold[[row], month], last)
        policy = self._params.policy_of_each[number]
        return int(demands(policy, sight, np.array([[number]]), self._draws)[0, 0])

    # Discussion and home --------------------------------------------------------------------------------------------

    async def _discuss(self, wave: Wave, run: TalkingRun, interview: Interview) -> dict[str, Any] | None:
        if not self._params.communication:
            return None
        month = wave.month
        agents = self._present_agents(run, month)
        granted = wave.batch.granted[run.row, month, : self._membership.present(month)].tolist()
        harvested = Harvested(granted, int(wave.batch.threshold[run.row, month]))
        outcome = await self._discussion.hold(interview, Month(month + 1), agents, harvested)
        wave.batch.utterances[run.row, month] = outcome.conversation.own_utterances()
        wave.batch.limit[run.row, month] = -1 if outcome.limit is None else outcome.limit
        return as_line(interview, outcome)

    async def _go_home(self, wave: Wave, run: TalkingRun, interview: Interview) -> None:
        month = Month(wave.month + 1)
        agents = self._present_agents(run, wave.month)
        if self._params.report == "none":
            granted = wave.batch.granted[run.row, wave.month, : self._membership.present(wave.month)].tolist()
            text = self._mind.questions.prompts.scene.results(self._params.names[: len(granted)], granted)
            for agent in agents.values():  # forgotten the moment it is stored, as officially
                self._mind.store_event(agent, text, month.home, month.home)
        await all_of(reflect(agent, self._mind, interview, month) for agent in agents.values())

    def _present_agents(self, run: TalkingRun, month: int) -> dict[int, Agent]:
        present = self._membership.present(month)
        return {number: agent for number, agent in run.agents.items() if number < present}


def llm_agents(params: SimulateParams) -> dict[int, Llm]:
    """The agents that have a model, by number."""
    return {number: policy for number, policy in enumerate(params.policy_of_each) if isinstance(policy, Llm)}


def _new_nodes(run: TalkingRun, known: Mapping[int, int]) -> list[dict[str, Any]]:
    """Nodes stored since, as lines of `memory.jsonl`."""
    return [
        {"run": run.run, "agent": number, "name": agent.name, **node.to_line()}
        for number, agent in run.agents.items()
        for node in agent.memory.nodes[known[number] :]
    ]
