"""From a point of a figure to the runs behind it, and to the exact prompts: what stands in a figure's `customdata`.

A point carries `{group, runs, month, agent, keys}`: `runs` are names in their source, `month` counts from 1, `keys` are
call keys of `transcript.jsonl`. What a point isn't about is null; where no model was asked there are no keys.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workers.govsim.imported import ImportedRun

MOST_LINKED = 40  # runs and keys a point names, at most
Link = dict[str, Any]


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

    def harvest_keys(self, month: int, agent: int | None = None) -> list[str]:
        """Of an agent's decision in a month (from 1), or of everyone's."""
        if month > self.played:
            return []
        present = range(len(self.run.granted[month - 1])) if agent is None else (agent,)
        return [f"run{self.run.name}/month{month}/harvest/agent{one}" for one in present if one in self.asked]

    def limit_keys(self, month: int) -> list[str]:
        """Of the question what a month's discussion agreed."""
        return [f"run{self.run.name}/month{month}/limit"] if self.discusses and month <= self.played else []


def link(
    group: str, runs: Iterable[RunLinks], month: int | None = None, agent: int | None = None, keys: Sequence[str] = ()
) -> Link:
    """One point's `customdata`."""
    names = [links.run.name for links in runs][:MOST_LINKED]
    return {"group": group, "runs": names, "month": month, "agent": agent, "keys": list(keys[:MOST_LINKED])}


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
