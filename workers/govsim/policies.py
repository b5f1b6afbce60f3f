"""Scripted policies: how an agent without a language model names its demand.

Each rule is vectorised over runs and over agents that share the policy. Symbols: w demand, R the stock shown, thr the
threshold per agent at the month's start. Scripted agents are told last month's grants in every condition, with or
without communication: what the paper's conditions withhold is language, and these agents have none.
"""

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from shared.jobs.catalog.govsim import AnyPolicy, Fixed, Greedy, Random, Replay, Threshold, TitForTat
from workers.govsim.randomness import Draws, Ints, Purpose


@dataclass(frozen=True)
class Report:
    """What everybody learnt about last month."""

    granted: Ints  # (runs, agents present then)
    threshold: Ints  # (runs,), thr of that month


@dataclass(frozen=True)
class Sight:
    """What agents see when they are asked."""

    month: int  # 0-based
    runs: Ints  # (runs,), the runs' numbers in the job
    stock: Ints  # (runs,), R
    threshold: Ints  # (runs,), thr
    last: Report | None  # None in the first month

    def of(self, rows: Ints) -> "Sight":
        """The same for some of the runs."""
        last = self.last and Report(self.last.granted[rows], self.last.threshold[rows])
        return Sight(self.month, self.runs[rows], self.stock[rows], self.threshold[rows], last)


def demands(policy: AnyPolicy, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    """Demands (runs, k) of agents that follow this policy; of an empty stock nobody asks for anything.

    `agents` is (1, k): the same k agents in every run, or (runs, 1): one per run.
    """
    wanted = np.broadcast_to(_wanted(policy, sight, agents, draws), (len(sight.stock), agents.shape[1]))
    return np.where(sight.stock[:, None] == 0, 0, wanted)


@singledispatch
def _wanted(policy: AnyPolicy, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    raise TypeError(f"no rule for the policy {policy!r}")


@_wanted.register
def _threshold(policy: Threshold, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    return sight.threshold[:, None]


@_wanted.register
def _fixed(policy: Fixed, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    return np.asarray(policy.quantity, dtype=np.int64)


@_wanted.register
def _greedy(policy: Greedy, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    if policy.factor is None:
        return sight.stock[:, None]
    # Rounded first: a decimal factor has no exact binary form, and 0.29 · 100 must give 29.
    return np.floor(np.round(policy.factor * sight.threshold, 9)).astype(np.int64)[:, None]


@_wanted.register
def _random(policy: Random, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    scale = sight.threshold[:, None] if policy.unit == "threshold" else 1
    uniform = draws.uniform(Purpose.POLICY, sight.runs[:, None], sight.month, agents)
    return draws.integer(policy.low * scale, policy.high * scale, uniform)


@_wanted.register
def _tit_for_tat(policy: TitForTat, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    """thr, unless another agent's last grant exceeded last month's thr: then min(R, the largest of those grants)."""
    thr = sight.threshold[:, None]
    if sight.last is None:
        return thr
    others = _largest_of_others(sight.last.granted, agents)
    answer = np.minimum(sight.stock[:, None], others)
    met_defector = others > sight.last.threshold[:, None]
    newcomer = agents >= sight.last.granted.shape[1]  # was not there last month: nothing to answer yet
    return np.where(met_defector & ~newcomer, answer, thr)


@_wanted.register
def _replay(policy: Replay, sight: Sight, agents: Ints, draws: Draws) -> Ints:
    return np.asarray(policy.demands[min(sight.month, len(policy.demands) - 1)], dtype=np.int64)


def _largest_of_others(granted: Ints, agents: Ints) -> Ints:
    """(runs, k): the largest grant of anyone else; −1 where there is nobody else."""
    padded = np.concatenate([granted, np.full((len(granted), 1), -1)], axis=1)
    first = padded.argmax(axis=1)
    top = padded.max(axis=1)
    padded[np.arange(len(padded)), first] = -1
    second = padded.max(axis=1)
    return np.asarray(np.where(first[:, None] == agents, second[:, None], top[:, None]))
