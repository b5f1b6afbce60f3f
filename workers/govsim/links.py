"""From a point of a figure to the runs behind it, and to the exact prompts: what stands in a figure's `customdata`.

A point carries `{group, runs, month, agent, keys}`. `runs` are `{source, run}`, the run's name in its source; `keys`
are `{source, key}` with a call key of that source's `transcript.jsonl`; `month` counts from 1. A source is the
reference an analysis was given; null is the job itself. What a point isn't about is null; where no model was asked
there are no keys.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.govsim.imported import ImportedRun, stack

MOST_LINKED = 40  # runs and keys a point names, at most
Link = dict[str, Any]
Key = dict[str, str | None]


@dataclass(frozen=True)
class RunLinks:
    """How points lead to one run."""

    run: ImportedRun
    asked: frozenset[int]  # agents whose prompts are in the transcript
    discusses: bool

    @classmethod
    def of(cls, run: ImportedRun) -> "RunLinks":
        """The links of a run; only runs of our own jobs have a transcript."""
        models = run.condition.get("models") or []
        is_own = run.log is None and "report" in run.condition
        asked = frozenset(agent for agent, model in enumerate(models) if model is not None and is_own)
        return cls(run, asked, bool(asked) and bool(run.condition["communication"]))

    @property
    def played(self) -> int:
        """Months."""
        return len(self.run.pool)

    @property
    def collapsed(self) -> bool:
        """Whether the resource was lost."""
        return self.run.pool[-1][1] < self.run.conditions.collapse_below

    @property
    def over_users(self) -> list[tuple[int, int]]:
        """(month from 1, agent) of every grant above thr."""
        batch = stack([self.run])
        above = batch.granted[0] > batch.threshold[0][:, None]
        return [(month + 1, agent) for month, agent in np.argwhere(above[: self.played]).tolist()]

    def key(self, of: str) -> Key:
        """The link to a prompt of this run."""
        return {"source": self.run.source, "key": f"run{self.run.name}/{of}"}

    def harvest_keys(self, month: int, agent: int | None = None) -> list[Key]:
        """Of an agent's decision in a month (from 1), or of everyone's."""
        if month > self.played:
            return []
        present = range(len(self.run.granted[month - 1])) if agent is None else (agent,)
        return [self.key(f"month{month}/harvest/agent{one}") for one in present if one in self.asked]

    def limit_keys(self, month: int) -> list[Key]:
        """Of the question what a month's discussion agreed."""
        return [self.key(f"month{month}/limit")] if self.discusses and month <= self.played else []


def link(
    group: str, runs: Iterable[RunLinks], month: int | None = None, agent: int | None = None, keys: Sequence[Key] = ()
) -> Link:
    """One point's `customdata`."""
    named = [{"source": links.run.source, "run": links.run.name} for links in runs][:MOST_LINKED]
    return {"group": group, "runs": named, "month": month, "agent": agent, "keys": list(keys[:MOST_LINKED])}


def harvest_link(group: str, runs: Sequence[RunLinks], month: int, agent: int | None = None) -> Link:
    """A point on what was harvested in a month."""
    playing = [links for links in runs if month <= links.played]
    keys = [key for links in playing for key in links.harvest_keys(month, agent)]
    return link(group, playing, month, agent, keys)


def limit_link(group: str, runs: Sequence[RunLinks], month: int) -> Link:
    """A point on what was agreed in a month."""
    playing = [links for links in runs if month <= links.played]
    return link(group, playing, month, None, [key for links in playing for key in links.limit_keys(month)])


def collapse_link(group: str, runs: Sequence[RunLinks], month: int) -> Link:
    """A point on the runs that were lost in a month."""
    lost = [links for links in runs if links.collapsed and links.played == month]
    return link(group, lost, month, None, [key for links in lost for key in links.harvest_keys(month)])


def last_harvest_link(group: str, runs: Sequence[RunLinks]) -> Link:
    """A bar on how long the runs lasted: the harvests of each one's last month."""
    return link(group, runs, None, None, [key for links in runs for key in links.harvest_keys(links.played)])


def over_usage_link(group: str, runs: Sequence[RunLinks]) -> Link:
    """A bar on over-usage: the harvests whose grant exceeds thr, or all where none does."""
    over = [key for links in runs for month, agent in links.over_users for key in links.harvest_keys(month, agent)]
    every = (key for links in runs for month in range(1, links.played + 1) for key in links.harvest_keys(month))
    return link(group, runs, None, None, over or list(every))
